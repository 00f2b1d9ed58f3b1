"""A hostile server of --teacher: it ends in time, with the reason, and gets no key that is not its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_server import ERROR_HEAD, TRICKS, HostileServer, whole

from distill import cli, embedding_server

pytestmark = pytest.mark.slow  # as a whole: each test loads a model

Answer = Callable[[Any], Iterator[bytes]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_server, "RETRIES", 0)
    monkeypatch.setattr(embedding_server, "SECONDS", 0.5)
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def learn(invoke: Any, model: str, tmp_path: Path, write: Any, corpus: Any) -> Callable[..., Any]:
    """learn(server): distill from it, in this process."""
    source = write(tmp_path / "texts.jsonl", corpus)
    fixed = ("--model", model, "-o", tmp_path / "student", "--batch", 5, "--steps", 1)

    def learn(server: HostileServer, *argv: Any) -> Any:
        return invoke(cli.main, source, *fixed, "--teacher", "t", "--base-url", server.url, *argv)

    return learn


def embeddings(body: Any, vectors: Any = None) -> bytes:
    """An answer with a vector of 4 numbers for each text, or with other items."""
    if vectors is None:
        vectors = [
            {"index": number, "embedding": [1.0, len(text), 2.0, number]}
            for number, text in enumerate(body["input"])
        ]
    return whole(json.dumps({"object": "list", "data": vectors}).encode())


def after_the_first(answer: Answer) -> Answer:
    """Answer the request for the dimension well, and the others so."""
    seen: list[Any] = []

    def reply(body: Any) -> Iterator[bytes]:
        seen.append(body)
        return iter([embeddings(body)]) if len(seen) == 1 else answer(body)

    return reply


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_ends_in_time_with_the_reason(name: str, learn: Any, tmp_path: Path) -> None:
    with HostileServer(after_the_first(lambda body: TRICKS[name]())) as server:
        started = time.monotonic()
        done = learn(server)
        assert time.monotonic() - started < 20
    assert done.rc == 1
    assert "the server of --teacher t" in done.err
    assert "Traceback" not in done.err
    assert "unexpected failure" not in done.err
    assert "\x1b[31m" not in done.err
    if name == "redirect":
        assert "http://169.254.169.254/meta" in done.err
        assert "not followed" in done.err
        assert len(server.requests) == 2
    assert not (tmp_path / "student").exists()


ODD_ITEMS: dict[str, Callable[[int], Any]] = {
    "none": lambda count: [],
    "one too few": lambda count: [{"index": i, "embedding": [1.0] * 4} for i in range(count - 1)],
    "one too many": lambda count: [{"index": i, "embedding": [1.0] * 4} for i in range(count + 1)],
    "one index twice": lambda count: [{"index": 0, "embedding": [1.0] * 4}] * count,
    "another dimension": lambda count: [{"index": i, "embedding": [1.0] * 5} for i in range(count)],
    "ragged": lambda count: [{"index": i, "embedding": [1.0] * (4 + i)} for i in range(count)],
    "NaN": lambda count: [{"index": i, "embedding": [float("nan")] * 4} for i in range(count)],
    "texts": lambda count: [{"index": i, "embedding": "abcd"} for i in range(count)],
    "nulls": lambda count: [None] * count,
    "zeros": lambda count: [{"index": i, "embedding": [0.0] * 4} for i in range(count)],
    "huge": lambda count: [{"index": i, "embedding": [10**400] * 4} for i in range(count)],
    "beyond float16": lambda count: [{"index": i, "embedding": [1e5] * 4} for i in range(count)],
    "below float16": lambda count: [{"index": i, "embedding": [1e-9] * 4} for i in range(count)],
}


@pytest.mark.parametrize("name", ODD_ITEMS)
def test_vectors_that_do_not_fit_are_refused(name: str, learn: Any) -> None:
    def answer(body: Any) -> Iterator[bytes]:
        return iter([embeddings(body, ODD_ITEMS[name](len(body["input"])))])

    with HostileServer(after_the_first(answer)) as server:
        done = learn(server)
    assert done.rc == 1
    assert "the server of --teacher t" in done.err
    assert ("float16" in done.err) == ("float16" in name)


def test_vectors_in_any_order_are_put_in_that_of_the_texts(learn: Any) -> None:
    def answer(body: Any) -> Iterator[bytes]:
        items = [{"index": i, "embedding": [1.0, i, 2, 3]} for i in range(len(body["input"]))]
        return iter([embeddings(body, items[::-1])])

    with HostileServer(answer) as server:
        assert learn(server).rc == 0


def test_a_key_goes_nowhere_unless_it_is_named_and_comes_back_redacted(
    learn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "canary-of-openai-123"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)

    def answer(body: Any) -> Iterator[bytes]:
        return iter([whole(b'{"error": {"message": "no %s"}}' % escaped.encode(), ERROR_HEAD)])

    with HostileServer(answer) as server:
        unnamed = learn(server)
        named = learn(server, "--api-key-env", "OPENAI_API_KEY")
    [first, second] = server.keys
    assert key not in first
    assert second == f"bearer {key}"
    assert unnamed.rc == named.rc == 1
    assert key not in named.err
    assert "[key]" in named.err
