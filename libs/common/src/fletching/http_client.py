"""The one HTTP client of tools that talk to a server: nothing that it sends can hold or fill us.

A time-out of the libraries below is for one read; a server that drips headers, sends `100
Continue` for ever or never ends an error body can hold a program that has one. Here one deadline
is for the whole exchange, from the connection to the last byte of the body, and every byte
received is counted, whatever the status. A compressed body is counted as decompressed.

Needs the extra `fletching[server]`. Imported only by those that are about to send a request.
"""

from __future__ import annotations

import contextlib
import json
import math
import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

from fletching.errors import InputError

HEADER_BYTES = 256 << 10  # of all headers of a response, those of `100 Continue` included
FRAMING_BYTES = 1 << 20  # beside the body: chunk sizes, and what was read ahead
CONNECT_SECONDS = 10.0
WRITE_BYTES = 16 << 10  # of a request at a time
LONGEST_INTEGER = 18  # digits; a longer number of a server becomes a float
LONGEST_FLOAT = 300  # digits; and beyond this, infinity
ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate")
# Of the response as the transport hands it on: the body is whole, decompressed, and UTF-8.
DROPPED_HEADERS = ("content-encoding", "content-length", "transfer-encoding", "content-type")


class ResponseTooLargeError(Exception):
    """A response beyond the most bytes that this client takes."""


@dataclass
class _Exchange:
    """What is left of the time and the bytes of one request and its response."""

    deadline: float
    bytes_left: int
    most_bytes: int

    def seconds_left(self, limit: float | None = None) -> float:
        """Raises httpcore2.ReadTimeout where the time is over."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("no whole answer in time")
        return left if limit is None else min(left, limit)

    def count(self, size: int) -> None:
        """Raises ResponseTooLargeError where more came than this exchange may bring."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise too_large(self.most_bytes)


def too_large(most_bytes: int) -> ResponseTooLargeError:
    """The error of a response beyond `most_bytes`."""
    return ResponseTooLargeError(f"the response is larger than {most_bytes >> 20} MB")


# A connection is shared by threads, one at a time; a request is sent and read by one thread.
_current = threading.local()


class BoundedStream(httpcore2.NetworkStream):
    """A connection whose reads and writes end at the deadline of the thread's exchange."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self.stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """At most `max_bytes`, counted."""
        exchange: _Exchange = _current.exchange
        data = self.stream.read(max_bytes, exchange.seconds_left(timeout))
        exchange.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of `buffer`, in pieces: a server may read slowly."""
        exchange: _Exchange = _current.exchange
        for start in range(0, len(buffer), WRITE_BYTES):
            piece = buffer[start : start + WRITE_BYTES]
            self.stream.write(piece, exchange.seconds_left(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        """The same connection, encrypted."""
        seconds = _current.exchange.seconds_left(timeout)
        return BoundedStream(self.stream.start_tls(ssl_context, server_hostname, seconds))

    def close(self) -> None:
        """Close the connection."""
        self.stream.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        """What the connection below says of itself."""
        return self.stream.get_extra_info(info)


class BoundedBackend(httpcore2.SyncBackend):
    """Opens connections that are bounded."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """A TCP connection."""
        seconds = _current.exchange.seconds_left(timeout)
        stream = super().connect_tcp(
            host,
            port,
            timeout=seconds,
            local_address=local_address,
            socket_options=socket_options,
        )
        return BoundedStream(stream)


class BoundedTransport(httpx2.BaseTransport):
    """Requests to one server; each response comes back whole, decompressed and within bounds.

    seconds: of an exchange whose request names no time-out. most_bytes: of a body, as sent and
    as decompressed. connections: at a time.
    """

    def __init__(self, base_url: str, *, seconds: float, most_bytes: int, connections: int) -> None:
        self.seconds = seconds
        self.most_bytes = most_bytes
        self.pool = _connection_pool(base_url, connections)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and read the whole response.

        Raises httpx2.TransportError, httpx2.TimeoutException, ResponseTooLargeError.
        """
        seconds = request.extensions.get("timeout", {}).get("read") or self.seconds
        deadline = time.monotonic() + seconds
        exchange = _Exchange(deadline, HEADER_BYTES, self.most_bytes)
        _current.exchange = exchange
        with _as_httpx_errors(), self._open(request, seconds) as response:
            exchange.bytes_left += self.most_bytes + FRAMING_BYTES
            body = self._body(response)
        headers = httpx2.Headers(response.headers)
        content = decompress(body, headers.get("content-encoding", ""), self.most_bytes)
        # As bytes: a server may send what is no text in any encoding.
        kept = [
            (name, value)
            for name, value in response.headers
            if name.lower().decode("latin-1") not in DROPPED_HEADERS
        ]
        # A charset of the server's choice may name any codec of Python's.
        media_type = headers.get("content-type", "").split(";")[0].strip()
        kept.append((b"content-type", media_type.encode("ascii", "replace")))
        return httpx2.Response(response.status, headers=kept, content=content)

    @contextlib.contextmanager
    def _open(self, request: httpx2.Request, seconds: float) -> Iterator[httpcore2.Response]:
        connect_seconds = min(CONNECT_SECONDS, seconds)
        limits = {"connect": connect_seconds, "read": seconds, "write": seconds, "pool": seconds}
        url = request.url
        request.read()
        response = self.pool.handle_request(
            httpcore2.Request(
                request.method,
                httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.content,
                extensions={"timeout": limits},
            )
        )
        try:
            yield response
        finally:
            response.close()

    def _body(self, response: httpcore2.Response) -> bytes:
        """The body as it was sent. Raises ResponseTooLargeError."""
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > self.most_bytes:
                raise too_large(self.most_bytes)
        return b"".join(chunks)

    def close(self) -> None:
        """Close the connections."""
        self.pool.close()


def http_client(
    base_url: str, *, seconds: float, most_bytes: int, connections: int = 1
) -> httpx2.Client:
    """A client for one server, as `openai.OpenAI(http_client=…)` takes it. It follows no redirect.

    seconds: the deadline of a whole exchange. most_bytes: of a response.
    """
    transport = BoundedTransport(
        base_url, seconds=seconds, most_bytes=most_bytes, connections=connections
    )
    return httpx2.Client(
        transport=transport,
        timeout=seconds,
        follow_redirects=False,
        headers={"accept-encoding": "gzip"},
    )


def _connection_pool(base_url: str, connections: int) -> httpcore2.ConnectionPool:
    """Connections to the server, by the proxy that the environment names for it."""
    shared: dict[str, Any] = {
        "ssl_context": httpx2.create_ssl_context(),
        "max_connections": connections,
        "max_keepalive_connections": connections,
        "keepalive_expiry": 5.0,
        "network_backend": BoundedBackend(),
    }
    proxy = _environment_proxy(base_url)
    if proxy is None:
        return httpcore2.ConnectionPool(**shared)
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"the proxy of the environment for {urlsplit(base_url).hostname} is no http proxy",
            "set HTTPS_PROXY to http://HOST:PORT, or name the server in NO_PROXY",
        )
    login = None
    if parts.username is not None:
        login = (unquote(parts.username), unquote(parts.password or ""))
    port = f":{parts.port}" if parts.port else ""
    address = f"{parts.scheme}://{parts.hostname}{port}"
    return httpcore2.HTTPProxy(address, proxy_auth=login, **shared)


def _environment_proxy(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@contextlib.contextmanager
def _as_httpx_errors() -> Iterator[None]:
    """Errors of the connections as those of the client, which the openai package knows."""
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise httpx2.ReadTimeout(str(error)) from error
    except (httpcore2.NetworkError, httpcore2.ProxyError) as error:
        raise httpx2.NetworkError(str(error)) from error
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
        raise httpx2.RemoteProtocolError(str(error)) from error


def decompress(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """The body without its Content-Encoding, gzip or deflate.

    Raises ResponseTooLargeError, and httpx2.DecodingError where it is damaged or encoded otherwise.
    """
    encoding = encoding.strip().lower()
    if encoding not in ENCODINGS:
        raise httpx2.DecodingError("the response has a content encoding that was not asked for")
    if encoding in ("", "identity") or not body:
        return body
    parts: list[bytes] = []
    size = 0
    while body:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # the header says gzip or zlib
        try:
            part = inflater.decompress(body, most_bytes + 1 - size)
        except zlib.error:
            raise httpx2.DecodingError("the response is compressed and damaged") from None
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise too_large(most_bytes)
        if not inflater.eof:
            raise httpx2.DecodingError("the response is compressed and cut off")
        body = inflater.unused_data
    return b"".join(parts)


def parse_json(content: bytes) -> Any:  # noqa: ANN401
    """The JSON of a response. Raises ValueError, also where it is nested too deep.

    Bytes that are no UTF-8 become U+FFFD, and numbers of hundreds of digits floats: neither is a
    reason to lose what was paid for.
    """
    try:
        return json.loads(content.decode("utf-8", "replace"), parse_int=_parse_integer)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def _parse_integer(digits: str) -> int | float:
    if len(digits) <= LONGEST_INTEGER:
        return int(digits)
    return float(digits) if len(digits) <= LONGEST_FLOAT else math.inf
