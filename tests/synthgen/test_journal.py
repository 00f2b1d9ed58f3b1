"""A token that was paid for is never paid for again: kill -9 at any point, run again, and count."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from hypothesis import given
from hypothesis import strategies as st
from llm_server import Server

from fletching.errors import InputError
from fletching_synthgen import cli
from fletching_synthgen.llm.journal import JOURNAL_FILE, Completion, Journal

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

COMPLETION = Completion(text="text", finish="stop", model="m", prompt_tokens=1, completion_tokens=2)


def key(number: int) -> str:
    return f"{number:032x}"


def keys_of(journal: Path) -> set[str]:
    """The keys of whole lines, read without our code."""
    content = (journal / JOURNAL_FILE).read_bytes() if (journal / JOURNAL_FILE).exists() else b""
    return {entry["key"] for entry in map(json.loads, content.split(b"\n")[:-1]) if "key" in entry}


KILLED_RUN = (
    "--model",
    "m",
    "--per-row",
    12,
    "--concurrency",
    4,
    "--no-language-check",
)
REQUESTS = 72  # of that run: six tasks


@pytest.fixture(scope="module")
def undisturbed_output(tmp_path_factory: pytest.TempPathFactory, write: Any, tasks: Any) -> bytes:
    """What the run that is killed below writes when nobody kills it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    source = write(folder / "in.jsonl", tasks)
    with Server() as server:
        words = [source, *KILLED_RUN, "--base-url", server.url, "-o", folder / "out.parquet"]
        assert cli.main([*map(str, words), "--quiet"]) == 0
    return (folder / "out.parquet").read_bytes()


@pytest.mark.parametrize("after", [0, 1, 30, 71])
def test_killed_at_any_point_and_run_again_it_asks_nothing_twice_and_gives_the_same_bytes(
    after: int,
    undisturbed_output: bytes,
    serve: Any,
    invoke: Any,
    write: Any,
    tmp_path: Path,
    tasks: Any,
) -> None:
    server = serve(latency=0.02)
    source = write(tmp_path / "in.jsonl", tasks)
    words = [source, *KILLED_RUN, "--base-url", server.url, "-o", tmp_path / "out.parquet"]
    killed = Forked(words, tmp_path / "err")
    while len(server.completed) < after and killed.running:
        time.sleep(0.001)
    time.sleep(random.Random(after).random() * 0.02)
    killed.send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "out.parquet").exists()
    time.sleep(0.1)
    kept = keys_of(tmp_path / "out.parquet.journal")
    before = len(server.chat_requests)
    again = invoke(cli.main, *words, "--json-summary", tmp_path / "s.json")
    assert again.rc == 0, again.err
    this_run = json.loads((tmp_path / "s.json").read_text())["measures"]["this_run"]
    assert this_run["from_journal"] == len(kept)
    assert this_run["asked_now"] == REQUESTS - len(kept)
    # What reached the server twice was in flight at the kill: no response to it was on disk.
    assert len(server.chat_requests) - REQUESTS <= 4
    assert before - len(kept) <= 4
    assert (tmp_path / "out.parquet").read_bytes() == undisturbed_output


def test_answers_that_come_out_of_order_give_rows_in_the_order_of_the_plan(
    serve: Any, generate: Any, tasks: Any
) -> None:
    slow = random.Random(0)
    first = generate(serve(), tasks[:5], "--per-row", 8, "--concurrency", 1)

    def dawdle(number: int, body: Any) -> None:
        time.sleep(slow.random() * 0.05)

    second = generate(serve(fault=dawdle), tasks[:5], "--per-row", 8, "--concurrency", 16, name="b")
    assert [row["synth_request"] for row in second.rows] == [
        row["synth_request"] for row in first.rows
    ] and second.rows == first.rows


@pytest.mark.parametrize("in_flight", [1, 20])
def test_as_many_requests_are_in_flight_as_asked_and_no_more(
    in_flight: int, serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(latency=1.5)  # long enough for a busy machine to send them all
    assert (
        generate(server, tasks[2:3], "--per-row", 2 * in_flight, "--concurrency", in_flight).rc == 0
    )
    assert server.most_in_flight == in_flight


def test_a_second_run_asks_nothing_at_all_and_needs_no_server(
    serve: Any, generate: Any, tasks: Any
) -> None:
    first = generate(serve(), tasks[:3], "--per-row", 3)
    again = generate("http://127.0.0.1:9/v1", tasks[:3], "--per-row", 3)
    assert (
        again.rc == 0
        and again.rows == first.rows
        and again.summary["measures"]["this_run"]
        == {"asked_now": 0, "from_journal": 9, "retries": 0}
    )


def test_more_examples_a_task_pay_for_the_new_ones_alone(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve()
    generate(server, tasks[2:4], "--per-row", 2)
    more = generate(server, tasks[2:4], "--per-row", 5)
    assert len(more.rows) == 10 and len(server.chat_requests) == 10


def test_a_journal_can_be_named_and_stdout_has_one_too(
    serve: Any, invoke: Any, write: Any, tmp_path: Path, tasks: Any
) -> None:
    source = write(tmp_path / "in.jsonl", tasks[2:3])
    server = serve()
    assert (
        invoke(
            cli.main,
            source,
            "--model",
            "m",
            "--base-url",
            server.url,
            "-o",
            tmp_path / "a.jsonl",
            "--journal",
            tmp_path / "named",
        ).rc
        == 0
    )
    assert len(keys_of(tmp_path / "named")) == 1 and not (tmp_path / "a.jsonl.journal").exists()
    assert invoke(cli.main, source, "--model", "m", "--base-url", server.url).rc == 0
    [cached] = (tmp_path / "cache" / "fletching" / "synthgen").iterdir()
    assert len(keys_of(cached)) == 1 and len(server.chat_requests) == 2
    assert (
        invoke(cli.main, source, "--model", "m", "--base-url", server.url, "--max-requests", 50).rc
        == 0
        and len(server.chat_requests) == 2
    )


def test_one_request_that_stands_in_the_plan_twice_is_asked_once(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(latency=0.05)
    done = generate(server, [tasks[2], tasks[2]], "--concurrency", 8)
    assert (
        len(server.chat_requests) == 1
        and len(done.rows) == 1
        and done.summary["dropped"]["duplicate"] == 1
    )


def test_an_interrupted_run_leaves_no_output_and_goes_on(
    serve: Any, invoke: Any, write: Any, tmp_path: Path, tasks: Any
) -> None:
    server = serve(latency=0.2)
    words = [
        write(tmp_path / "in.jsonl", tasks[2:3]),
        "--model",
        "m",
        "--base-url",
        server.url,
        "--per-row",
        40,
        "--concurrency",
        2,
        "-o",
        tmp_path / "out.jsonl",
    ]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        had = len(server.chat_requests)
        running = Forked(words, tmp_path / "err")
        while len(server.chat_requests) < had + 6 and running.running:
            time.sleep(0.01)
        started = time.monotonic()
        running.send(number)
        assert (
            running.wait() == code
            and time.monotonic() - started < 5
            and "Traceback" not in running.told
        )
        assert not (tmp_path / "out.jsonl").exists()
    assert invoke(cli.main, *words).rc == 0 and len(server.chat_requests) <= 40 + 2 * 2


# --- the file ---


@given(st.lists(st.tuples(st.integers(0, 5), st.text()), max_size=12))
def test_what_is_put_is_got_back_after_opening_again(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[int, str]]
) -> None:
    folder = str(tmp_path_factory.mktemp("journal"))
    journal = Journal(folder)
    for number, text in entries:
        journal.put(key(number), replace(COMPLETION, text=text, cached_tokens=3, estimated=True))
    journal.close()
    again = Journal(folder)
    for number, text in dict(entries).items():
        assert again.get(key(number)) == replace(
            COMPLETION, text=text, cached_tokens=3, estimated=True
        )
    assert len(again) == len(dict(entries)) and again.get(key(99)) is None
    again.close()


def test_a_line_that_was_torn_by_a_power_cut_is_cut_off(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    for number in range(3):
        journal.put(key(number), COMPLETION)
    journal.close()
    content = (tmp_path / JOURNAL_FILE).read_bytes()
    for cut in range(1, len(content.splitlines(True)[2])):
        (tmp_path / JOURNAL_FILE).write_bytes(content[:-cut])
        again = Journal(str(tmp_path))
        assert len(again) == 2 and again.get(key(2)) is None
        again.put(key(2), COMPLETION)
        again.close()
        assert (tmp_path / JOURNAL_FILE).read_bytes() == content


OLD_NOTE = {
    "probe": "db7a16234fb4c9b5",
    "asked": None,
    "rung": "json-schema",
    "drop": [],
    "limit": "max_tokens",
    "tokens": 7,
}
OLD_ANSWER = {
    "text": '{"input": "Many a little makes a mickle", "positive_document": "Drop by drop"}',
    "finish": "stop",
    "model": "scripted-1",
    "prompt_tokens": 81,
    "completion_tokens": 26,
    "cached_tokens": 0,
    "estimated": False,
}


def test_a_journal_of_the_first_version_is_replayed_without_a_request(
    generate: Any, tasks: Any, tmp_path: Path
) -> None:
    """Keys, field names and notes are a format: what was paid for then is not paid for again."""
    entries = [
        {"note": OLD_NOTE},
        {"key": "b3cf5c6b43abec27f2bcbacb3737eeff", "answer": OLD_ANSWER},
    ]
    (tmp_path / "old").mkdir()
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (tmp_path / "old" / JOURNAL_FILE).write_text(lines)
    done = generate("http://127.0.0.1:9/v1", tasks[2:3], "--journal", tmp_path / "old")
    assert done.rc == 0, done.err
    assert [row["query"] for row in done.rows] == ["Many a little makes a mickle"]
    assert (tmp_path / "old" / JOURNAL_FILE).read_text() == lines


def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(b'{"note": {}}\n{"key": "zz"}\n')
    with pytest.raises(InputError, match="line 2 is damaged"):
        Journal(str(tmp_path))


def test_two_runs_cannot_write_to_one_journal(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.put(key(0), COMPLETION)
    with pytest.raises(InputError, match="another synthgen"):
        Journal(str(tmp_path))
    journal.close()
    Journal(str(tmp_path)).close()


def test_many_threads_write_whole_lines_and_every_answer_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(tmp_path))
    synced: list[int] = []
    real = os.fsync

    def sync(handle: int) -> None:
        real(handle)
        status = os.fstat(handle)
        journal_file = tmp_path / JOURNAL_FILE
        # Not its folder, which has a size too.
        if journal_file.exists() and os.path.samestat(status, os.stat(journal_file)):
            synced.append(status.st_size)

    monkeypatch.setattr(os, "fsync", sync)

    def put(first: int) -> None:
        for number in range(first, first + 25):
            journal.put(key(number), replace(COMPLETION, text="x" * number))
            assert max(synced) >= journal.line_starts[bytes.fromhex(key(number))]

    threads = [threading.Thread(target=put, args=(first,)) for first in range(0, 200, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys_of(tmp_path) == {key(number) for number in range(200)} and max(
        synced
    ) == os.path.getsize(tmp_path / JOURNAL_FILE)
    assert all(
        journal.get(key(number)) == replace(COMPLETION, text="x" * number) for number in range(200)
    )
    journal.close()


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j"))
    journal.note(hello=1)
    journal.close()
    assert (tmp_path / "j" / JOURNAL_FILE).stat().st_mode & 0o077 == 0
