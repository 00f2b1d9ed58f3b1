"""A token that was paid for is never paid for again: kill -9 at any point, run again, and count."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InputError
from synthgen import cli
from synthgen.llm.journal import NAME, Answer, Journal

ANSWER = Answer("text", "stop", "m", 1, 2)


def key(number: int) -> str:
    return f"{number:032x}"


def keys_of(journal: Path) -> set[str]:
    """The keys of whole lines, read without our code."""
    content = (journal / NAME).read_bytes() if (journal / NAME).exists() else b""
    return {entry["key"] for entry in map(json.loads, content.split(b"\n")[:-1]) if "key" in entry}


@pytest.mark.parametrize("after", [0, 1, 9, 30, 55, 71])
def test_killed_at_any_point_and_run_again_it_asks_nothing_twice_and_gives_the_same_bytes(
    after: int, serve: Any, invoke: Any, write: Any, tmp_path: Path, tasks: Any
) -> None:
    server = serve(latency=0.02)
    words = [
        write(tmp_path / "in.jsonl", tasks),
        "--model",
        "m",
        "--base-url",
        server.url,
        "--per-row",
        12,
        "--concurrency",
        4,
        "--no-language-check",
    ]
    killed = Forked([*words, "-o", tmp_path / "out.parquet"], tmp_path / "err")
    while len(server.answered) < after and killed.running:
        time.sleep(0.001)
    time.sleep(random.Random(after).random() * 0.02)
    killed.send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not (tmp_path / "out.parquet").exists(), killed.told
    time.sleep(0.1)
    kept, before = keys_of(tmp_path / "out.parquet.journal"), len(server.asked)
    again = invoke(
        cli.main, *words, "-o", tmp_path / "out.parquet", "--json-summary", tmp_path / "s.json"
    )
    assert again.rc == 0, again.err
    run = json.loads((tmp_path / "s.json").read_text())["measures"]["this_run"]
    assert run["from_journal"] == len(kept) and run["asked_now"] == 72 - len(kept)
    # What reached the server twice was in flight at the kill: no answer to it was on disk.
    assert len(server.asked) - 72 <= 4 and before - len(kept) <= 4
    assert invoke(cli.main, *words, "-o", tmp_path / "whole.parquet").rc == 0
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()


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


@pytest.mark.parametrize("flying", [1, 3, 20])
def test_as_many_requests_are_in_flight_as_asked_and_no_more(
    flying: int, serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(latency=0.6)  # long enough for a busy machine to send them all
    assert generate(server, tasks[2:3], "--per-row", 2 * flying, "--concurrency", flying).rc == 0
    assert server.most_in_flight == flying


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
    assert len(more.rows) == 10 and len(server.asked) == 10


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
            tmp_path / "mine",
        ).rc
        == 0
    )
    assert len(keys_of(tmp_path / "mine")) == 1 and not (tmp_path / "a.jsonl.journal").exists()
    assert invoke(cli.main, source, "--model", "m", "--base-url", server.url).rc == 0
    [cached] = (tmp_path / "cache" / "fletching" / "synthgen").iterdir()
    assert len(keys_of(cached)) == 1 and len(server.asked) == 2
    assert (
        invoke(cli.main, source, "--model", "m", "--base-url", server.url, "--max-requests", 50).rc
        == 0
        and len(server.asked) == 2
    )


def test_one_request_that_stands_in_the_plan_twice_is_asked_once(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve(latency=0.05)
    done = generate(server, [tasks[2], tasks[2]], "--concurrency", 8)
    assert (
        len(server.asked) == 1 and len(done.rows) == 1 and done.summary["dropped"]["duplicate"] == 1
    )


def test_an_interrupted_run_leaves_no_output_and_goes_on(
    serve: Any, invoke: Any, write: Any, tmp_path: Path, tasks: Any
) -> None:
    server = serve(latency=0.05)
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
        had = len(server.asked)
        running = Forked(words, tmp_path / "err")
        while len(server.asked) < had + 6 and running.running:
            time.sleep(0.01)
        started = time.monotonic()
        running.send(number)
        assert (
            running.wait() == code
            and time.monotonic() - started < 5
            and "Traceback" not in running.told
        )
        assert not (tmp_path / "out.jsonl").exists()
    assert invoke(cli.main, *words).rc == 0 and len(server.asked) <= 40 + 2 * 2


# --- the file ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.text()), max_size=12))
def test_what_is_put_is_got_back_after_opening_again(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[int, str]]
) -> None:
    folder = str(tmp_path_factory.mktemp("journal"))
    journal = Journal(folder)
    for number, text in entries:
        journal.put(key(number), Answer(text, "stop", "m", 1, 2, 3, True))
    journal.close()
    again = Journal(folder)
    for number, text in dict(entries).items():
        assert again.get(key(number)) == Answer(text, "stop", "m", 1, 2, 3, True)
    assert len(again) == len(dict(entries)) and again.get(key(99)) is None
    again.close()


def test_a_line_that_was_torn_by_a_power_cut_is_cut_off(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    for number in range(3):
        journal.put(key(number), ANSWER)
    journal.close()
    content = (tmp_path / NAME).read_bytes()
    for cut in range(1, len(content.splitlines(True)[2])):
        (tmp_path / NAME).write_bytes(content[:-cut])
        again = Journal(str(tmp_path))
        assert len(again) == 2 and again.get(key(2)) is None
        again.put(key(2), ANSWER)
        again.close()
        assert (tmp_path / NAME).read_bytes() == content


def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"note": {}}\n{"key": "zz"}\n')
    with pytest.raises(InputError, match="line 2 is damaged"):
        Journal(str(tmp_path))


def test_two_runs_cannot_write_to_one_journal(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.put(key(0), ANSWER)
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
        found = os.fstat(handle)
        if (tmp_path / NAME).exists() and os.path.samestat(
            found, os.stat(tmp_path / NAME)
        ):  # not its folder, which has a size too
            synced.append(found.st_size)

    monkeypatch.setattr(os, "fsync", sync)

    def put(first: int) -> None:
        for number in range(first, first + 25):
            journal.put(key(number), Answer("x" * number, "stop", "m", 1, 2))
            assert max(synced) >= journal.places[bytes.fromhex(key(number))]

    threads = [threading.Thread(target=put, args=(first,)) for first in range(0, 200, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys_of(tmp_path) == {key(number) for number in range(200)} and max(
        synced
    ) == os.path.getsize(tmp_path / NAME)
    assert all(
        journal.get(key(number)) == Answer("x" * number, "stop", "m", 1, 2) for number in range(200)
    )
    journal.close()


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j"))
    journal.note(hello=1)
    journal.close()
    assert (tmp_path / "j" / NAME).stat().st_mode & 0o077 == 0
