"""What the network and the server can do to us, and that every row comes all the same, or the run stops with their words."""

from __future__ import annotations

import email.utils
import json
import threading
import time
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching_synthgen.llm import rate_limiter
from fletching_synthgen.llm.rate_limiter import RateLimiter

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

KEY = "canary-7f3a91c2d4"
MENDED = {
    "429 with Retry-After": {"status": 429, "headers": {"retry-after": "0.2"}},
    "429 with a date": {
        "status": 429,
        "headers": {"retry-after": email.utils.formatdate(time.time() - 5, usegmt=True)},
    },
    "429 without": {"status": 429},
    "408": {"status": 408},
    "409": {"status": 409},
    "500": {"status": 500},
    "503 that is no JSON": {
        "status": 503,
        "body": b"<html>busy</html>",
        "headers": {"content-type": "text/html"},
    },
    "200 that is no completion": {"status": 200, "body": {"hello": 1}},
    "200 without choices": {"status": 200, "body": {"choices": []}},
    "a list instead of an object": {"status": 200, "body": [1]},
    "hang": "hang",
    "half-closed": "half",
    "reset": "reset",
    "truncated JSON": "cut",
    "slow stream": "drip",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limiter, "BACKOFF_SCALE", 0.01)


@pytest.mark.parametrize("name", MENDED)
def test_a_passing_fault_costs_a_retry_and_no_row(
    name: str, serve: Any, generate: Any, tasks: Any
) -> None:
    fault = MENDED[name]
    server = serve(fault=lambda number, body: fault if number in (1, 3) else None)
    done = generate(server, tasks[2:3], "--per-row", 6, "--timeout", 0.5, "--concurrency", 2)
    assert done.rc == 0 and len(done.rows) == 6, done.err
    assert done.summary["measures"]["this_run"]["retries"] == 2 and len(server.chat_requests) == 8


def test_retry_after_holds_up_everybody(serve: Any, generate: Any, tasks: Any) -> None:
    arrived: list[float] = []

    def fault(number: int, body: Any) -> Any:
        arrived.extend([time.monotonic()] * (number >= 0))
        return {"status": 429, "headers": {"retry-after": "0.6"}} if number == 0 else None

    done = generate(serve(fault=fault), tasks[2:3], "--per-row", 3, "--concurrency", 1)
    assert done.rc == 0 and arrived[1] - arrived[0] >= 0.55


@pytest.mark.parametrize(
    ("status", "words", "advice"),
    [
        (401, "Incorrect API key provided", "--api-key-env"),
        (403, "Country not supported", "--api-key-env"),
        (404, "The model `m` does not exist", "--model"),
        (402, "Payment needed", "top up"),
        (302, "moved", "base-url"),
    ],
)
def test_a_permanent_error_stops_at_once_with_the_servers_words(
    status: int, words: str, advice: str, serve: Any, generate: Any, tasks: Any
) -> None:
    fault = {
        "status": status,
        "body": {"error": {"message": words}},
        "headers": {"location": "http://169.254.169.254/"},
    }
    server = serve(fault=lambda number, body: fault)
    done = generate(server, tasks, "--per-row", 50)
    assert done.rc == 1 and f"HTTP {status}" in done.err and not done.rows
    assert (words in done.err and advice in done.err) or status == 302
    assert len(server.chat_requests) == 0 and len(server.probes) == 1  # the probe found it out


def test_an_empty_account_is_permanent_though_it_says_429(
    serve: Any, generate: Any, tasks: Any
) -> None:
    fault = {
        "status": 429,
        "body": {
            "error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}
        },
    }
    server = serve(fault=lambda number, body: fault if number > 3 else None)
    done = generate(server, tasks[2:3], "--per-row", 30, "--concurrency", 1)
    assert (
        done.rc == 1
        and "exceeded your current quota" in done.err
        and "the same command goes on" in done.err
        and len(server.chat_requests) == 5
    )
    assert "Traceback" not in done.err and not done.rows


def test_one_request_that_the_server_refuses_is_a_reject_and_not_the_end(
    serve: Any, generate: Any, tasks: Any
) -> None:
    fault = {"status": 400, "body": {"error": {"message": "context length exceeded"}}}
    done = generate(
        serve(fault=lambda number, body: fault if number == 2 else None), tasks[2:3], "--per-row", 6
    )
    assert (
        done.rc == 0
        and len(done.rows) == 5
        and done.summary["dropped"]["refused by the server"] == 1
    )
    assert "context length exceeded" in done.rejects[0]["reject_detail"]


def test_a_server_that_refuses_everything_stops_the_run(
    serve: Any, generate: Any, tasks: Any
) -> None:
    fault = {"status": 400, "body": {"error": {"message": "max_tokens is too large"}}}
    server = serve(fault=lambda number, body: fault if number >= 0 else None)
    done = generate(server, tasks[2:3], "--per-row", 200, "--concurrency", 2)
    assert (
        done.rc == 1 and "max_tokens is too large" in done.err and len(server.chat_requests) <= 12
    )


def test_a_dead_server_stops_the_run_and_says_how_to_go_on(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(fault=lambda number, body: {"status": 500} if number >= 4 else None)
    done = generate(server, tasks[2:3], "--per-row", 20, "--retries", 2, "--concurrency", 1)
    assert (
        done.rc == 1
        and "after 3 attempts" in done.err
        and "fault 500" in done.err
        and "the same command goes on" in done.err
    )
    again = generate(serve(), tasks[2:3], "--per-row", 20, "--concurrency", 1)
    assert (
        again.rc == 0
        and len(again.rows) == 20
        and again.summary["measures"]["this_run"]["from_journal"] == 4
    )


def test_a_request_that_always_fails_is_a_reject_where_others_get_through(
    serve: Any, generate: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limiter, "BACKOFF_SCALE", 0.3)
    bad: list[str] = []

    def fault(number: int, body: Any) -> Any:
        if number == 1:
            bad.append(body["seed"])
        return {"status": 500} if body.get("seed") in bad else None

    done = generate(
        serve(fault=fault, latency=0.02),
        tasks[2:3],
        "--per-row",
        60,
        "--retries",
        2,
        "--concurrency",
        3,
    )
    assert (
        done.rc == 0 and len(done.rows) == 59 and done.summary["dropped"]["server failed"] == 1
    ), done.err


def test_a_pause_that_is_too_long_stops_the_run(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve(
        fault=lambda number, body: (
            {"status": 429, "headers": {"retry-after": "7200"}} if number >= 0 else None
        )
    )
    done = generate(server, tasks[2:3], "--longest-wait", 60)
    assert (
        done.rc == 1
        and "a pause of 7,200 s" in done.err
        and "--longest-wait" in done.err
        and len(server.chat_requests) == 1
    )


def test_no_server_at_all_is_an_error(generate: Any, tasks: Any) -> None:
    done = generate("http://127.0.0.1:9/v1", tasks, "--retries", 1)
    assert done.rc == 1 and "no connection" in done.err and "Traceback" not in done.err


def test_an_endless_response_is_cut_off(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve(
        fault=lambda number, body: (
            {"status": 200, "body": b" " * (17 << 20)} if number == 0 else None
        )
    )
    done = generate(server, tasks[2:3], "--per-row", 2, "--concurrency", 1)
    assert len(done.rows) == 1 and "16 MB" in done.rejects[0]["reject_detail"]


# --- the request format ---


@pytest.mark.parametrize(
    ("refuses", "enforces", "taken"),
    [
        ({}, ("json_schema",), "json_schema"),
        ({"json_schema": 400}, ("json_object+schema",), "json_object+schema"),
        ({"json_schema": 500}, ("json_object+schema",), "json_object+schema"),
        ({"json_schema": 422, "json_object+schema": 400}, (), "json_object"),
        ({"json_schema": 400, "json_object+schema": 400, "json_object": 400}, (), "prompt"),
        ({}, (), "json_schema"),
        ({}, ("json_object+schema",), "json_object+schema"),
    ],
)
def test_the_best_form_that_the_server_takes_is_found_once(
    refuses: Any, enforces: Any, taken: str, serve: Any, generate: Any, tasks: Any
) -> None:
    from llm_server import response_format_of

    server = serve(refuses=refuses, enforces=enforces)
    assert generate(server, tasks[2:3], "--per-row", 3).rc == 0
    assert {response_format_of(body) for body in server.chat_requests} == {taken}
    probes = len(server.probes)
    assert (
        generate(server, tasks[2:3], "--per-row", 5).rc == 0 and len(server.probes) == probes
    )  # noted in the journal


def test_a_form_that_is_refused_by_500_is_passed_over_without_retries_too(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(refuses={"json_schema": 500}, enforces=("json_object+schema",))
    assert generate(server, tasks[2:3], "--retries", 0).rc == 0
    assert server.probes == [
        "json_object+schema"
    ]  # what is refused by a status is not in this list


def test_a_form_can_be_demanded(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve()
    assert generate(server, tasks[2:3], "--response-format", "json-object").rc == 0
    assert server.probes == ["json_object"] and server.chat_requests[0]["response_format"] == {
        "type": "json_object"
    }


def test_parameters_that_the_model_refuses_are_left_out(
    serve: Any, generate: Any, tasks: Any
) -> None:
    def fault(number: int, body: Any) -> Any:
        for name, words in (
            ("max_tokens", "Unsupported parameter: use max_completion_tokens"),
            ("temperature", "Unsupported value"),
            ("seed", "extra inputs: seed"),
        ):
            if name in body:
                return {"status": 400, "body": {"error": {"message": words, "param": name}}}
        return None

    server = serve(fault=fault)
    assert generate(server, tasks[2:3]).rc == 0
    assert (
        "max_completion_tokens" in server.chat_requests[0]
        and not {"max_tokens", "temperature", "seed"} & set(server.chat_requests[0])
        and "top_p" in server.chat_requests[0]
    )


def test_usage_that_the_server_does_not_count_is_estimated_and_marked(
    serve: Any, generate: Any, tasks: Any
) -> None:
    done = generate(serve(usage=False), tasks[2:3], "--per-row", 2)
    ledger = done.summary["measures"]["ledger"]
    assert ledger["estimated_usage"] == 2
    assert ledger["prompt_tokens"] > 50
    assert ledger["completion_tokens"] > 10


# --- rate limits ---


def limiter(clock: list[float], requests: int | None, tokens: int | None) -> RateLimiter:
    """Limits per minute, by a clock that stands still unless it is moved."""
    return RateLimiter(
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        stop=threading.Event(),
        clock=lambda: clock[0],
    )


def test_turns_are_spread_by_requests_and_by_tokens() -> None:
    clock = [100.0]
    by_requests = limiter(clock, 60, None)
    assert [by_requests.reserve_turn(5) for _ in range(3)] == [0, 1, 2]
    by_tokens = limiter(clock, None, 600)
    assert [by_tokens.reserve_turn(50) for _ in range(3)] == [0, 5, 10]
    by_tokens.correct(-20)
    assert by_tokens.reserve_turn(50) == 13
    by_tokens.pause(60)
    assert by_tokens.reserve_turn(1) == 60


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 3)), min_size=2, max_size=40),
    st.integers(1, 600),
    st.integers(100, 10_000),
)
def test_no_minute_has_more_turns_than_the_rate(
    steps: list[tuple[int, float]], requests: int, tokens: int
) -> None:
    clock = [0.0]
    turns = limiter(clock, requests, tokens)
    starts = []
    for size, seconds in steps:
        starts.append((clock[0] + turns.reserve_turn(size), size))
        clock[0] += seconds
    for minute, _ in starts:
        inside = [size for start, size in starts if minute <= start < minute + 60 - 1e-6]
        assert len(inside) <= requests + 1
        assert sum(inside[:-1]) <= tokens + 1e-6


def test_a_rate_holds_in_a_real_run(serve: Any, generate: Any, tasks: Any) -> None:
    started = time.monotonic()
    assert generate(serve(), tasks[2:3], "--per-row", 7, "--requests-per-minute", 600).rc == 0
    assert time.monotonic() - started >= 0.65
    started = time.monotonic()
    assert (
        generate(serve(), tasks[2:3], "--per-row", 4, "--tokens-per-minute", 20_000, name="b").rc
        == 0
    )
    assert time.monotonic() - started >= 0.5


def test_back_off_is_full_jitter_below_a_growing_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limiter, "BACKOFF_SCALE", 0.5)
    assert [rate_limiter.backoff(n, lambda low, high: high) for n in range(9)] == [
        0.5,
        1,
        2,
        4,
        8,
        16,
        32,
        60,
        60,
    ]
    assert {rate_limiter.backoff(3, lambda low, high: low)} == {0.0}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "3"}, 3), ({"retry-after": "0.5"}, 0.5), ({"retry-after-ms": "250"}, 0.25), ({}, None), ({"retry-after": "soon"}, None), ({"retry-after": "-4"}, 0), ({"retry-after": "inf"}, None),
     ({"retry-after": "Sat, 21 Nov 2026 00:00:10 GMT"}, 10)],
)  # fmt: skip
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    at = email.utils.parsedate_to_datetime("Sat, 21 Nov 2026 00:00:00 GMT").timestamp()
    assert rate_limiter.retry_after(headers, lambda: at) == seconds


def test_no_key_reaches_anything_that_is_kept_or_said(
    serve: Any, invoke: Any, write: Any, tmp_path: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says the key back in every place it can."""
    from fletching_synthgen import cli

    monkeypatch.setenv("MY_KEY", KEY)
    server, stopping = _server_that_echoes(serve), _server_that_quotes_the_key(serve)
    source = write(tmp_path / "tasks.jsonl", [{**tasks[2], "id": f"t{i}"} for i in range(6)])
    key_file, out = tmp_path / "key.txt", tmp_path / "out.parquet"
    key_file.write_text(f"file-{KEY}\n")
    common = [source, "--model", "m"]
    with_env = [*common, "--base-url", server.url, "--api-key-env", "MY_KEY"]
    with_env += ["--rejects", tmp_path / "rejects.jsonl", "--ledger", tmp_path / "ledger.parquet"]
    with_env += ["--json-summary", tmp_path / "s.json"]
    with_file = ["--base-url", stopping.url, "--api-key-file", key_file]

    first = invoke(cli.main, *with_env, "-o", out, "--concurrency", 1)
    second = invoke(cli.main, *common, *with_file, "-o", tmp_path / "no.jsonl")
    third = invoke(cli.main, *with_env, "--job", "judge")

    assert first.rc == 0, first.err
    assert {header["authorization"] for header in server.headers} == {f"Bearer {KEY}"}
    assert second.rc == 1 and "Incorrect API key" in second.err
    assert stopping.headers[0]["authorization"] == f"Bearer file-{KEY}"
    key_file.unlink()
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any("answers.jsonl" in str(path) for path in kept) and len(kept) >= 5
    printed = {i: done.out + done.err.encode() for i, done in enumerate([first, second, third])}
    for name, content in [*kept.items(), *printed.items()]:
        assert KEY.encode() not in content, name
    table = pq.read_table(out)  # its pages are compressed
    rows = json.dumps(table.to_pylist())
    assert KEY not in rows + str(table.schema.metadata) and "[key]" in rows


def _server_that_echoes(serve: Any) -> Any:
    """Says the key in errors, in answers of no use, and in texts."""

    def echo(body: dict[str, Any]) -> Any:
        return {
            "input": f"the owl knows {KEY} well",
            "positive_document": f"so does the mouse know {KEY}",
        }

    faults = {
        1: {"status": 429, "body": {"error": {"message": f"slow down, {KEY}"}}},
        2: {"status": 400, "body": {"error": {"message": f"bad {KEY}"}}},
        3: {"status": 200, "body": {"oops": KEY}},
    }
    return serve(write=echo, fault=lambda number, body: faults.get(number))


def _server_that_quotes_the_key(serve: Any) -> Any:
    error = {"error": {"message": f"Incorrect API key provided: file-{KEY}"}}
    return serve(fault=lambda number, body: {"status": 401, "body": error})


def test_words_that_look_like_a_key_stay_in_rows_and_go_from_errors(
    serve: Any, generate: Any, tasks: Any
) -> None:
    said = {
        "input": "the key-exchange of sk-learnable models",
        "positive_document": "Diffie and Hellman",
    }
    assert generate(serve(write=lambda body: said), tasks[2:3]).rows[0]["query"] == said["input"]
    refusing = serve(
        fault=lambda number, body: {
            "status": 401,
            "body": {"error": {"message": "Incorrect key: sk-abcd*****wxyz"}},
        }
    )
    assert "Incorrect key: [key]" in generate(refusing, tasks[2:3], name="b").err


def test_the_key_of_openai_goes_to_no_other_server(
    serve: Any, generate: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-for-openai")
    server = serve()
    assert generate(server, tasks[2:3]).rc == 0
    assert all("canary" not in json.dumps(headers) for headers in server.headers)
