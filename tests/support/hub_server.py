"""A stand-in for the Hugging Face hub: one data set of a few files, listed and served in ranges."""

from __future__ import annotations

import http.server
import json
import re
import socketserver
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

REVISION = "0" * 40


class Hub:
    """Serves `files` (content by path) as the data set `name` while the block runs; `url` is its address."""

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.name, self.files = name, files

    def __enter__(self) -> Hub:
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

    def entries(self) -> list[dict[str, Any]]:
        """The files and their folders as the API lists them."""
        folders = dict.fromkeys(path.rpartition("/")[0] for path in self.files if "/" in path)
        return [
            *({"type": "directory", "path": path, "oid": REVISION} for path in folders),
            *(
                {"type": "file", "path": path, "oid": REVISION, "size": len(content)}
                for path, content in self.files.items()
            ),
        ]

    def below(self, folder: str) -> list[dict[str, Any]]:
        """What lies directly in a folder."""
        return [entry for entry in self.entries() if entry["path"].rpartition("/")[0] == folder]


class _Server(socketserver.ThreadingTCPServer):
    """Unlike HTTPServer it does not ask for the name of the machine, which may take seconds."""

    daemon_threads = True


class _Handler(http.server.BaseHTTPRequestHandler):
    served: Hub

    def log_message(self, *details: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        asked = self.rfile.read(size)
        path = unquote(urlsplit(self.path).path)
        api = f"/api/datasets/{self.served.name}"
        content = re.fullmatch(rf"/datasets/{self.served.name}/resolve/[^/]+/(.+)", path)
        if content and content[1] in self.served.files:
            self._send_range(self.served.files[content[1]])
        elif path in (api, f"{api}/revision/main"):
            self._send_json({"id": self.served.name, "sha": REVISION, "siblings": []})
        elif tree := re.fullmatch(rf"{api}/tree/[^/]+/?(.*)", path):
            self._send_json(self.served.below(tree[1]))
        elif path.startswith(f"{api}/paths-info/"):
            paths = json.loads(asked)["paths"]
            self._send_json([entry for entry in self.served.entries() if entry["path"] in paths])
        else:
            self._send(404, b"{}")

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode())

    def _send_range(self, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            self._send(200, content)
            return
        start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
        self._send(206, content[start : end + 1])

    def _send(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", REVISION)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
