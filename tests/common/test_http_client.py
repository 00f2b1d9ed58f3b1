"""The client of every server: a deadline, bounded memory, no redirect, and a key that nobody reads."""

from __future__ import annotations

import base64
import json
import resource
import socket
import threading
import time
import urllib.parse
from typing import Any

import httpx2
import pytest
from hostile_server import TRICKS, HostileServer
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import UsageError
from fletching.http_client import ResponseTooLargeError, http_client, parse_json
from fletching.server_address import ServerAddress, server_address

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

SECONDS = 0.4
MOST_BYTES = 4 << 20
FAILURES = (httpx2.HTTPError, ResponseTooLargeError)
# The whole answer comes; what it holds is for the tool to judge.
ARRIVING = (
    "header beyond ASCII",
    "strange charset",
    "HTML",
    "JSON 400 deep",
    "JSON 200,000 deep",
    "error JSON 200,000 deep",
    "invalid UTF-8",
    "NaN",
    "huge numbers",
    "redirect",
)


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", TRICKS)
def test_every_exchange_ends_at_its_deadline_and_within_its_bytes(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with HostileServer(lambda body: TRICKS[name]()) as server:
        client = http_client(server.url, seconds=SECONDS, most_bytes=MOST_BYTES)
        started = time.monotonic()
        if name in ARRIVING:
            response = client.post(server.url + "/x", json={})
            assert len(response.content) <= MOST_BYTES
        else:
            with pytest.raises(FAILURES):
                client.post(server.url + "/x", json={})
        assert time.monotonic() - started < SECONDS + 1.5
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # A bomb's trick itself takes 300 MB in this process, where it is compressed.
    assert grown < (700_000 if "bomb" in name else 100_000)


def test_a_server_that_does_not_read_ends_at_the_deadline_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listener.accept, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        client = http_client(url, seconds=SECONDS, most_bytes=MOST_BYTES)
        started = time.monotonic()
        with pytest.raises(httpx2.TransportError):
            client.post(url, content=b"x" * (64 << 20))
        assert time.monotonic() - started < SECONDS + 1.5


def test_json_of_servers_is_read_without_losing_what_was_paid_for() -> None:
    digits = b"9" * 5000
    assert parse_json(b'{"a": "\xff", "n": 12, "big": -' + digits + b"}")["n"] == 12
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" * 200_000)


# --- keys ---

KEY = "sk-live/Ab+12_cd-34EF56"


@given(st.lists(st.sampled_from("purxJ"), min_size=len(KEY), max_size=len(KEY)))
def test_a_key_is_found_however_its_letters_are_escaped(ways: list[str]) -> None:
    forms = {
        "p": str,
        "u": lambda c: f"\\u{ord(c):04X}",
        "r": lambda c: f"%{ord(c):02x}",
        "x": lambda c: f"&#x{ord(c):x};",
        "J": lambda c: f"\\\\u{ord(c):04x}",
    }
    written = "".join(forms[way](letter) for way, letter in zip(ways, KEY))
    address = ServerAddress("http://h", KEY)
    assert address.redact(f"before {written} after") == "before [key] after"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_a_key_is_found_in_base64_hex_and_json(before: str) -> None:
    address = ServerAddress("http://h", KEY)
    encoded = base64.b64encode(f"{before}{KEY} and more".encode()).decode()
    middle = base64.b64encode(KEY.encode()).decode()[4:-8]
    assert middle not in address.redact(base64.b64encode(KEY.encode()).decode())
    assert "[key]" in address.redact(encoded)
    assert address.redact(KEY.encode().hex().upper()) == "[key]"
    assert KEY not in address.redact(json.dumps({"k": [KEY]}))
    assert address.redact(urllib.parse.quote(KEY, safe="")) == "[key]"
    assert address.redact("sk- live") == "sk- live"


def test_the_key_of_openai_goes_to_openai_and_another_where_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert server_address("https://api.openai.com/v1").key == KEY
    for elsewhere in (
        "https://api.openai.com.evil.example/v1",
        "http://localhost:1/v1",
        "https://evil.example/api.openai.com",
    ):
        assert server_address(elsewhere).key is None
    assert server_address("http://localhost/v1", key_variable="OPENAI_API_KEY").key == KEY
    monkeypatch.setenv("BAD", "two words")
    for argument in ({"key_variable": "NOT_SET"}, {"key_variable": "BAD"}):
        with pytest.raises(UsageError, match="environment variable"):
            server_address("http://localhost/v1", **argument)


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "http://", "http://u:p@h/", "http://h/?k=1", "http://[", "h"]
)
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--base-url"):
        server_address(address)


def test_an_http_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from hostile_server import whole

    seen: list[Any] = []

    def answer(body: Any) -> Any:
        seen.append(body)
        return iter([whole(b'{"by": "proxy"}')])

    with HostileServer(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        client = http_client("http://far.example/v1", seconds=SECONDS, most_bytes=MOST_BYTES)
        assert client.post("http://far.example/v1/x", json={"a": 1}).json() == {"by": "proxy"}
    assert seen == [{"a": 1}]
