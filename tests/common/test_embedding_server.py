"""Texts embedded by a server, a hostile one too: order, halves, a cache that keeps what was paid, refusals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_server import ERROR_HEAD, JSON_HEAD, TRICKS, HostileServer, whole

from fletching.encode import embedding_client, server_encoder
from fletching.encode.embedding_client import PROBE
from fletching.encode.opening import check_vectors
from fletching.encode.server_encoder import ServerEncoder
from fletching.errors import InputError, UsageError
from fletching.options import EncodingOptions
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or waits for a server

Answer = Callable[[Any], Iterator[bytes]]
TEXTS = [f"text {number}" for number in range(100)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_client, "RETRIES", 0)
    monkeypatch.setattr(embedding_client, "SECONDS", 0.5)
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def vector(text: str) -> list[float]:
    """A vector that tells its text."""
    draw = np.random.default_rng([ord(letter) for letter in text])
    return [round(float(number), 6) for number in draw.normal(size=4)]


def units(texts: list[str]) -> Any:
    vectors = np.array([vector(text) for text in texts])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embeddings(body: Any, items: Any = None, model: str = "t") -> bytes:
    """An answer with the vector of each text, or with other items."""
    if items is None:
        items = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
    content = json.dumps({"object": "list", "data": items, "model": model}).encode()
    return whole(content, extra=b"connection: close\r\n")


def good(body: Any) -> Iterator[bytes]:
    return iter([embeddings(body)])


def after_the_probe(answer: Answer) -> Answer:
    """Answer probes well, and other requests so."""
    return lambda body: good(body) if body["input"][0] == PROBE else answer(body)


def encoder(url: str, **options: Any) -> ServerEncoder:
    chosen = EncodingOptions(**{"model": "t", "base_url": url} | options)
    return ServerEncoder(chosen, Report("test", quiet=True))


def encode(url: str, texts: list[str] = TEXTS, **options: Any) -> Any:
    with encoder(url, **options) as opened:
        return opened.encode(texts, "document")


# --- what is asked and what comes ----------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 7])
def test_answers_in_any_order_and_at_any_time_give_the_same_bytes(concurrency: int) -> None:
    """The first requests are answered last, and each answer has its items the other way round."""
    lock = threading.Lock()
    waits = [0.2, 0.1, 0.05, *[0.0] * 50]

    def answer(body: Any) -> Iterator[bytes]:
        with lock:
            wait = waits.pop(0)
        time.sleep(wait)
        items = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
        return iter([embeddings(body, items[::-1])])

    with HostileServer(after_the_probe(answer)) as server:
        vectors = encode(server.url, [*TEXTS, *TEXTS], concurrency=concurrency, batch_texts=9)
        sizes = sorted(len(body["input"]) for body in server.requests)
    assert sizes == [1, 1, *[9] * 11, 16]  # the probe alone, beside others, and each text once
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [*units(TEXTS), *units(TEXTS)], atol=1e-6)
    assert vectors.tobytes() == np.concatenate([vectors[:100], vectors[:100]]).tobytes()


def test_a_request_holds_so_many_texts_and_estimated_tokens() -> None:
    texts = ["a" * 40, "b" * 40, "c" * 400, "d", "e", "f", "g"]
    with HostileServer(good) as server:
        encode(server.url, texts, batch_texts=3, batch_tokens=24, concurrency=1)
        asked = [[text[0] for text in body["input"]] for body in server.requests[2:]]
    assert asked == [["a", "b"], ["c"], ["d", "e", "f"], ["g"]]


def test_concurrency_is_how_many_requests_are_in_flight() -> None:
    meeting = threading.Barrier(4, timeout=0.4)

    def answer(body: Any) -> Iterator[bytes]:
        meeting.wait()
        return good(body)

    with HostileServer(after_the_probe(answer)) as server:
        assert len(encode(server.url, batch_texts=25, concurrency=4)) == len(TEXTS)


def test_prompts_are_sent_with_the_texts() -> None:
    with HostileServer(good) as server, encoder(server.url, query_prompt="q: ") as opened:
        opened.encode(["one"], "query", [None])
        opened.encode(["two"], "document")
        with pytest.raises(InputError, match="asks for the query prompt 'other: '"):
            opened.encode(["three"], "query", ["other: "])
        assert [body["input"] for body in server.requests[2:]] == [["q: one"], ["two"]]
        assert opened.settings["prompts"] == {"query": "q: ", "document": ""}


def test_what_a_server_finds_too_large_is_halved_and_a_text_it_refuses_is_named() -> None:
    def answer(body: Any) -> Iterator[bytes]:
        if len(body["input"]) > 8 or "too long" in body["input"]:
            refusal = b'{"error": {"message": "batch size > maximum allowed"}}'
            head = JSON_HEAD.replace(b"200 OK", b"413 Large") + b"connection: close\r\n"
            return iter([whole(refusal, head)])
        return good(body)

    with HostileServer(answer) as server:
        np.testing.assert_allclose(encode(server.url), units(TEXTS), atol=1e-6)
        with pytest.raises(InputError, match="refuses the text 'too long'.*maximum allowed"):
            encode(server.url, [*TEXTS[:9], "too long"])


def test_options_that_a_server_cannot_follow_are_refused() -> None:
    url = "http://localhost:1/v1"
    for wrong in (
        EncodingOptions(base_url=url),
        EncodingOptions(base_url="localhost", model="t"),
        EncodingOptions(base_url=url, model="t", doc_length=8),
        EncodingOptions(base_url=url, model="t", query_echo=" "),
    ):
        with pytest.raises(UsageError):
            check_vectors(wrong, ())
    with pytest.raises(UsageError):
        check_vectors(EncodingOptions(base_url=url), ["vectors.parquet"])


# --- failures ------------------------------------------------------------------------------------


def test_a_server_that_dies_leaves_what_it_sent_and_the_next_run_asks_for_the_rest(
    tmp_path: Path,
) -> None:
    """Of another address too, with the requests that follow the failed one."""

    def answer(body: Any) -> Iterator[bytes]:
        if "text 30" in body["input"]:
            time.sleep(0.1)  # the requests in flight beside it are answered
            return iter([whole(b"{}", ERROR_HEAD)])
        return good(body)

    options = {"cache": str(tmp_path / "cache"), "batch_texts": 10, "concurrency": 8}
    with HostileServer(after_the_probe(answer)) as server:
        with pytest.raises(InputError, match="the server of --model t failed"):
            encode(server.url, **options)
        paid = [text for body in server.requests[2:] for text in body["input"]]
    with HostileServer(good) as server:
        np.testing.assert_allclose(encode(server.url, **options), units(TEXTS), atol=1e-6)
        again = [text for body in server.requests[2:] for text in body["input"]]
        assert encode(server.url, **options) is not None
        assert len(server.requests) == len(again) // 10 + 4  # the two last runs: probes
    assert set(again) & set(paid) == set(TEXTS[30:40])
    assert set(again) | set(paid) == set(TEXTS)


@pytest.mark.parametrize("fault", ["another model", "another dimension"])
def test_a_server_that_changes_midway_is_refused(fault: str) -> None:
    def answer(body: Any) -> Iterator[bytes]:
        if "text 50" not in body["input"]:
            return good(body)
        items = [{"index": i, "embedding": [1.0] * 5} for i in range(len(body["input"]))]
        return iter([embeddings(body, model="u") if "model" in fault else embeddings(body, items)])

    message = "answers with the model 'u', before it was 't'"
    if "dimension" in fault:
        message = "expected 4 finite numbers"
    with (
        HostileServer(after_the_probe(answer)) as server,
        pytest.raises(InputError, match=message),
    ):
        encode(server.url)


def test_a_server_that_mixes_the_texts_of_a_request_is_refused() -> None:
    def mixed(body: Any) -> Iterator[bytes]:
        total = np.sum([vector(text) for text in body["input"]], 0)
        items = [
            {"index": i, "embedding": [*(np.array(vector(text)) + total[::-1])]}
            for i, text in enumerate(body["input"])
        ]
        return iter([embeddings(body, items)])

    with HostileServer(mixed) as server:
        with pytest.raises(InputError, match="gives a text another vector beside other texts"):
            encode(server.url)
        assert len(encode(server.url, batch_texts=1, concurrency=1)) == len(TEXTS)


def test_another_model_of_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the vector of one text: beside the cache's, and again during a run."""

    def turned(body: Any) -> Iterator[bytes]:
        items = [
            {"index": i, "embedding": vector(text)[::-1]} for i, text in enumerate(body["input"])
        ]
        return iter([embeddings(body, items)])

    options = {"cache": str(tmp_path / "cache")}
    with HostileServer(good) as server:
        encode(server.url, **options)
    with HostileServer(turned) as server:
        with pytest.raises(InputError, match="in the cache are of another model"):
            encode(server.url, **options)
        assert len(server.requests) == 2
    answers: list[Answer] = [good, good, *[turned] * 100]
    monkeypatch.setattr(server_encoder, "PROBED_TEXTS", 100)
    with (
        HostileServer(lambda body: answers.pop(0)(body)) as server,
        pytest.raises(InputError, match="during this run, the server changed its model"),
    ):
        encode(server.url)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_ends_in_time_with_the_reason(name: str) -> None:
    with HostileServer(after_the_probe(lambda body: TRICKS[name]())) as server:
        started = time.monotonic()
        with pytest.raises(InputError, match="the server of --model t") as refused:
            encode(server.url, TEXTS[:3])
        assert time.monotonic() - started < 20
    assert "\x1b[31m" not in str(refused.value)
    if name == "redirect":
        assert "http://169.254.169.254/meta" in str(refused.value)
        assert "not followed" in str(refused.value)
        assert len(server.requests) == 3


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
}


@pytest.mark.parametrize("name", ODD_ITEMS)
def test_vectors_that_do_not_fit_are_refused(name: str) -> None:
    def answer(body: Any) -> Iterator[bytes]:
        return iter([embeddings(body, ODD_ITEMS[name](len(body["input"])))])

    with (
        HostileServer(after_the_probe(answer)) as server,
        pytest.raises(InputError, match="the server of --model t"),
    ):
        encode(server.url, TEXTS[:3])


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_vectors_of_any_length_get_unit_length(size: float) -> None:
    def answer(body: Any) -> Iterator[bytes]:
        items = [{"index": i, "embedding": [3 * size, 4 * size]} for i in range(len(body["input"]))]
        return iter([embeddings(body, items)])

    with HostileServer(answer) as server:
        np.testing.assert_allclose(encode(server.url, ["a", "b"]), [[0.6, 0.8]] * 2)


def test_a_key_goes_nowhere_unless_it_is_named_and_comes_back_redacted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "canary-of-openai-123"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)

    def answer(body: Any) -> Iterator[bytes]:
        return iter([whole(b'{"error": {"message": "no %s"}}' % escaped.encode(), ERROR_HEAD)])

    with HostileServer(answer) as server:
        with pytest.raises(InputError):
            encode(server.url)
        with pytest.raises(InputError) as refused:
            encode(server.url, api_key_env="OPENAI_API_KEY")
        assert key not in str(refused.value)
        assert "[key]" in str(refused.value)
        [unnamed, named] = server.keys
    assert key not in unnamed
    assert named == f"bearer {key}"
