"""A server that does what no server should: endless, compressed, torn and lying HTTP answers.

Each trick is bytes for ever or once, written to the socket as they are. The client of every tool must end
each of them within its deadline, in little memory, with a clear error.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
ERROR_HEAD = b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
BLOCK = b" " * (1 << 16)
CHUNK = f"{len(BLOCK):x}\r\n".encode() + BLOCK + b"\r\n"
DEEP = b"[" * 400 + b"]" * 400
VERY_DEEP = b"[" * 200_000


def whole(body: bytes, head: bytes = JSON_HEAD, extra: bytes = b"") -> bytes:
    return head + extra + f"content-length: {len(body)}\r\n\r\n".encode() + body


def forever(start: bytes, block: bytes, pause: float = 0.0) -> Iterator[bytes]:
    yield start
    while True:
        yield block
        time.sleep(pause)


@functools.cache
def bomb(head: bytes) -> bytes:
    """300 MB of blanks in 300 kB."""
    return whole(gzip.compress(b" " * (300 << 20), 1), head, b"content-encoding: gzip\r\n")


# What ends a request (the deadline or the number of bytes) is ours; the answer is what the server sends.
TRICKS: dict[str, Callable[[], Iterator[bytes]]] = {
    "endless headers": lambda: forever(JSON_HEAD, b"x-more: " + b"y" * 1000 + b"\r\n"),
    "endless 100 Continue": lambda: forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "dripped 100 Continue": lambda: forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "dripped headers": lambda: forever(JSON_HEAD + b"x: ", b"y", 0.05),
    "dripped body": lambda: forever(JSON_HEAD + CHUNKED, b"1\r\n \r\n", 0.05),
    "endless body": lambda: forever(JSON_HEAD + CHUNKED, CHUNK),
    "endless error body": lambda: forever(ERROR_HEAD + CHUNKED, CHUNK),
    "endless chunk header": lambda: forever(JSON_HEAD + CHUNKED, b"0" * 1000),
    "gzip bomb": lambda: iter([bomb(JSON_HEAD)]),
    "gzip bomb in an error": lambda: iter([bomb(ERROR_HEAD)]),
    "damaged gzip": lambda: iter([whole(b"no gzip", extra=b"content-encoding: gzip\r\n")]),
    "unknown encoding": lambda: iter([whole(b"{}", extra=b"content-encoding: br\r\n")]),
    "strange charset": lambda: iter(
        [whole(b"{}", ERROR_HEAD.replace(b"json\r", b"json; charset=rot13\r"))]
    ),
    "content length too large": lambda: iter([JSON_HEAD + b"content-length: 99999\r\n\r\n{"]),
    "content length no number": lambda: iter([JSON_HEAD + b"content-length: many\r\n\r\n{}"]),
    "HTML": lambda: iter(
        [whole(b"<html>no</html>", b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n")]
    ),
    "no HTTP": lambda: iter([b"\x00\xff\x1b[31m hello\r\n\r\n"]),
    "closed at once": lambda: iter([]),
    "JSON 400 deep": lambda: iter([whole(DEEP)]),
    "JSON 200,000 deep": lambda: iter([whole(VERY_DEEP)]),
    "error JSON 200,000 deep": lambda: iter([whole(VERY_DEEP, ERROR_HEAD)]),
    "invalid UTF-8": lambda: iter([whole(b'{"\xff\xfe": 1}')]),
    "NaN": lambda: iter([whole(b'{"choices": NaN, "data": NaN}')]),
    "huge numbers": lambda: iter([whole(b'{"choices": ' + b"9" * 100_000 + b"}")]),
    "header beyond ASCII": lambda: iter([whole(b"{}", extra=b"x-odd: \xff\xfe\x1b[2J\r\n")]),
    "redirect": lambda: iter(
        [whole(b"{}", b"HTTP/1.1 307 Go\r\nlocation: http://169.254.169.254/meta\r\n")]
    ),
}


class _Handler(socketserver.BaseRequestHandler):
    """Reads one request after the other and plays the next trick on it."""

    server: HostileServer

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            reader = self.request.makefile("rb")
            while True:
                head = iter(reader.readline, b"\r\n")
                lines = [line.lower() for line in head if line]
                if not lines:
                    return
                sizes = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
                body = reader.read(sizes[0] if sizes else 0)
                self.server.requests.append(json.loads(body))
                keys = [line[14:] for line in lines if line.startswith(b"authorization:")]
                self.server.keys.append(b"".join(keys).decode().strip())
                for data in self.server.answer(json.loads(body)):
                    self.request.sendall(data)
                return


class HostileServer(socketserver.ThreadingTCPServer):
    """answer(body of a request): the bytes to send, after which the connection is closed."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: Callable[[Any], Iterator[bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.requests: list[Any] = []
        self.keys: list[str] = []  # the authorization headers, in small letters

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> HostileServer:
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.shutdown()
        self.server_close()
