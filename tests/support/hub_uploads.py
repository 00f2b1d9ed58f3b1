"""A stand-in for the part of the Hugging Face hub that takes uploads: repositories, LFS objects, commits."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import socketserver
import threading
from typing import Any

TOKEN = "hf_standin"
LARGE = 10_000  # bytes from which a file goes to LFS, as .safetensors and .parquet do


class HubUploads:
    """Takes uploads while the block runs. repositories: what was committed, by (type, name) and path.

    private: by (type, name), as created. requests: each (method, path).
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.private: dict[tuple[str, str], bool] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []

    def __enter__(self) -> HubUploads:
        hub = self

        class Handler(_Handler):
            served = hub

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to push here."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


class _Handler(http.server.BaseHTTPRequestHandler):
    served: HubUploads

    def do_POST(self) -> None:
        hub = self.served
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        hub.requests.append(("POST", path))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, status=401)
        elif path == "/api/repos/create":
            content = json.loads(body)
            name = f"{content['organization']}/{content['name']}"
            key = (content.get("type", "model"), name)
            is_new = key not in hub.repositories
            hub.repositories.setdefault(key, {})
            hub.private.setdefault(key, _is_private(content))
            self.answer({"url": f"{hub.url}/{name}", "id": name}, status=200 if is_new else 409)
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": each["oid"],
                    "size": each["size"],
                    "actions": {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}},
                }
                for each in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/(model|dataset)s/(.+)/commit/main", path):
            self.commit(hub.repositories[match[1], match[2]], body)
            self.answer({"commitUrl": f"{hub.url}/{match[2]}/commit/1", "commitOid": "1" * 40})
        else:
            self.answer({"error": f"no such endpoint: {path}"}, status=404)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        digest = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == digest
        self.served.requests.append(("PUT", self.path))
        self.served.objects[digest] = content
        self.answer({})

    def commit(self, files: dict[str, bytes], body: bytes) -> None:
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.served.objects[value["oid"]]

    def answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on stderr."""


def _is_private(content: dict[str, Any]) -> bool:
    return bool(content.get("private")) or content.get("visibility") == "private"
