"""`--fetch` against a local server that answers as the hub does, then the evaluation without any network."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import ClassVar

import pytest

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

REVISION = "d3fb88f8f02e40887cd149695127462bbcf29b4a"  # the one that mteb names for BIOSSES
ROWS = [
    ("The owl hunts.", "An owl is hunting.", 4.5),
    ("Bread rises.", "Iron is hot.", 0.5),
    ("The tide comes.", "The sea moves.", 3.0),
]


class Hub(http.server.BaseHTTPRequestHandler):
    """The few answers of the hub that a download of a data set needs."""

    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.requests.append(path)
        prefix = f"/datasets/mteb/biosses-sts/resolve/{REVISION}/"
        if path == f"/api/datasets/mteb/biosses-sts/revision/{REVISION}":
            siblings = [{"rfilename": name} for name in self.files]
            self.send(
                json.dumps(
                    {"id": "mteb/biosses-sts", "sha": REVISION, "siblings": siblings}
                ).encode(),
                body,
            )
        elif path == f"/api/datasets/mteb/biosses-sts/tree/{REVISION}":
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in self.files.items()
            ]
            self.send(json.dumps(tree).encode(), body)
        elif path.startswith(prefix) and path[len(prefix) :] in self.files:
            self.send(self.files[path[len(prefix) :]], body)
        else:
            self.send_error(404)

    def send(self, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub():
    csv = "\n".join(
        ["sentence1,sentence2,score", *(f"{one},{two},{score}" for one, two, score in ROWS)]
    )
    Hub.files = {
        "test.csv": csv.encode(),
        "README.md": b"# BIOSSES\n",
        "loader.py": b"raise SystemExit('ran')\n",
    }
    Hub.requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.slow
def test_data_are_fetched_once_without_code_and_then_read_offline(hub, run, model, tmp_path):
    online = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    ran = run(
        ["mteb-eval", "--fetch", "--tasks", "BIOSSES", "--data", "data"], cwd=tmp_path, env=online
    )
    assert ran.rc == 0, ran.err
    assert sorted(path.name for path in Path(tmp_path, "data", "BIOSSES").iterdir()) == [
        "README.md",
        "test.csv",
    ]
    requests = len(Hub.requests)
    ran = run(
        ["mteb-eval", model, "--fetch", "--tasks", "BIOSSES", "--data", "data"],
        cwd=tmp_path,
        env=online,
    )
    assert ran.rc == 0, ran.err
    assert ran.text.startswith("BIOSSES, 3 pairs")
    assert len(Hub.requests) == requests  # nothing is asked of the hub while a model is evaluated
