"""The Batch API: submitted, polled, collected; found again after a kill; the same rows as live."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from llm_server import author

from fletching_synthgen import cli
from fletching_synthgen.llm import batch_api

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


def test_a_batch_gives_the_same_rows_as_live_asking(serve: Any, generate: Any, tasks: Any) -> None:
    live = generate(serve(), tasks, "--per-row", 4, "--no-language-check")
    server = serve()
    done = generate(
        server,
        tasks,
        "--per-row",
        4,
        "--no-language-check",
        "--batch-api",
        "--poll",
        0.02,
        name="b",
    )
    assert (
        done.rc == 0
        and done.rows == live.rows
        and len(server.chat_requests) == 24
        and len(server.batches) == 1
    ), done.err
    lines = [json.loads(line) for line in server.files["file-0"].splitlines()]
    assert {line["url"] for line in lines} == {"/v1/chat/completions"} and all(
        line["body"]["model"] == "m" for line in lines
    )
    again = generate(server, tasks, "--per-row", 4, "--no-language-check", "--batch-api", name="b")
    assert again.rows == done.rows and len(server.batches) == 1


def test_a_brainstorm_goes_by_batch_in_rounds(serve: Any, generate: Any) -> None:
    server = serve(write=lambda body: {"tasks": author(body)["tasks"][:7]})
    done = generate(
        server, None, "--brainstorm", 10, "--types", "short-long", "--batch-api", "--poll", 0.02
    )
    assert done.rc == 0 and len(done.rows) == 10 and len(server.batches) == 2


def test_replies_without_form_are_repaired_by_a_second_batch(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(
        write=lambda body: (
            author(body) if len(body["messages"]) > 1 or body["seed"] % 2 else "no form"
        )
    )
    done = generate(server, tasks[2:3], "--per-row", 12, "--batch-api", "--poll", 0.02)
    assert (
        done.rc == 0
        and len(done.rows) == 12
        and len(server.batches) == 2
        and 12 < len(server.chat_requests) < 24
    )


def test_requests_that_failed_in_the_batch_are_asked_in_another_and_then_rejected(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(
        fault=lambda number, body: (
            {"status": 500} if number >= 0 and body["seed"] % 3 == 0 else None
        )
    )
    done = generate(server, tasks[2:3], "--per-row", 12, "--batch-api", "--poll", 0.02)
    lost = done.summary["dropped"]["no answer in the batch"]
    assert (
        done.rc == 0
        and lost > 0
        and len(done.rows) == 12 - lost
        and len(server.batches) == batch_api.ROUNDS
        and "requests of the batch failed" in done.err
    )


def test_big_waves_are_cut_into_several_batches(
    serve: Any, generate: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "MOST_REQUESTS", 5)
    server = serve()
    assert (
        len(generate(server, tasks[2:3], "--per-row", 12, "--batch-api", "--poll", 0.02).rows) == 12
    )
    assert [
        len(content.splitlines())
        for name, content in server.files.items()
        if name.startswith("file")
    ] == [5, 5, 2]
    monkeypatch.setattr(batch_api, "MOST_BYTES", 3000)
    assert (
        len(
            generate(
                server,
                tasks[2:3],
                "--per-row",
                4,
                "--batch-api",
                "--poll",
                0.02,
                "--seed",
                1,
                name="b",
            ).rows
        )
        == 4
    )
    assert len(server.batches) > 4


@pytest.mark.parametrize("lose_the_id", [False, True])
def test_a_run_killed_while_it_waits_collects_its_batch_and_pays_nothing_twice(
    lose_the_id: bool, serve: Any, invoke: Any, write: Any, tmp_path: Path, tasks: Any
) -> None:
    server = serve()
    server.polls_until_done = 10**9
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal" / "answers.jsonl"
    words = [
        write(tmp_path / "in.jsonl", tasks[2:3]),
        "--model",
        "m",
        "--base-url",
        server.url,
        "--per-row",
        5,
        "--batch-api",
        "--poll",
        0.05,
        "-o",
        out,
    ]
    running = Forked(words, tmp_path / "err")
    while not (journal.exists() and b"batch_made" in journal.read_bytes()):
        time.sleep(0.02)
    running.send(signal.SIGKILL)
    running.wait()
    if lose_the_id:  # as if the kill had come between the server's reply and the journal
        kept = [line for line in journal.read_bytes().splitlines(True) if b"batch_made" not in line]
        journal.write_bytes(b"".join(kept))
    server.polls_until_done = 0
    done = invoke(cli.main, *words)
    assert done.rc == 0 and len(server.batches) == 1 and len(server.chat_requests) == 5, done.err
    assert len(out.read_text().splitlines()) == 5


def test_a_batch_that_the_server_fails_stops_with_its_words(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve()

    def fail(entry: dict[str, Any]) -> None:
        entry |= {
            "status": "failed",
            "errors": {
                "object": "list",
                "data": [{"message": "model m is not for batches", "code": "x"}],
            },
        }

    server.run_batch = fail
    done = generate(server, tasks[2:3], "--batch-api", "--poll", 0.02)
    assert done.rc == 1 and "model m is not for batches" in done.err


def test_a_server_without_batches_is_named_in_the_error(
    serve: Any, generate: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import llm_server

    monkeypatch.setattr(
        llm_server.Handler,
        "upload",
        lambda self, raw: self.reply(404, {"error": {"message": "no files here"}}),
    )
    done = generate(serve(), tasks[2:3], "--batch-api")
    assert done.rc == 1 and "no files here" in done.err and "/v1/batches" in done.err


def test_a_batch_is_looked_at_as_often_as_poll_says(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve()
    server.polls_until_done = 3
    started = time.monotonic()
    done = generate(server, tasks[2:3], "--batch-api", "--poll", 0.4)
    assert (
        done.rc == 0
        and time.monotonic() - started >= 0.8
        and done.err.count("looking again in 0.4 s") == 2
    )


def test_a_cap_holds_in_a_batch_too(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve()
    done = generate(
        server,
        tasks[2:3],
        "--per-row",
        20,
        "--batch-api",
        "--poll",
        0.02,
        "--max-requests",
        6,
        "--no-repair",
    )
    assert done.rc == 0 and len(done.rows) == len(server.chat_requests) == 6
