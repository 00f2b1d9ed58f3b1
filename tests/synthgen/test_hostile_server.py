"""A hostile server in front of synthgen: it ends, it says why, and what was paid for stays."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hostile_server import TRICKS, HostileServer, whole
from llm_server import Server, author

from fletching.errors import InputError
from fletching_synthgen.llm import rate_limiter
from fletching_synthgen.llm.journal import JOURNAL_FILE, Completion, Journal

pytestmark = pytest.mark.slow  # as a whole: some wait for a deadline

FAST = ("--retries", 1, "--timeout", 0.4, "--concurrency", 1, "--response-format", "prompt")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limiter, "BACKOFF_SCALE", 0.01)


def completion(body: Any, **usage: Any) -> dict[str, Any]:
    server = Server.completion
    content = server(
        _Bare(), body, author(body) if len(body["messages"][0]["content"]) > 40 else "hi"
    )
    return content | usage


class _Bare:
    """A server's answers without a server."""

    usage = False


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_ends_the_run_in_time_with_the_reason_and_keeps_what_was_paid(
    name: str, generate: Any, tasks: Any, tmp_path: Path
) -> None:
    """The probe and two requests are answered, then comes the trick."""

    def answer(body: Any) -> Any:
        if len(server.requests) <= 3:
            return iter([whole(json.dumps(completion(body)).encode())])
        return TRICKS[name]()

    with HostileServer(answer) as server:
        started = time.monotonic()
        done = generate(server.url, tasks[2:3], "--per-row", 4, *FAST)
        assert time.monotonic() - started < 20  # the first one imports the client
    assert "Traceback" not in done.err
    assert "unexpected failure" not in done.err
    assert "\x1b[31m" not in done.err
    if done.rc:  # else the two others are rejects
        assert "the same command goes on" in done.err or "--base-url" in done.err
    else:
        assert len(done.rejects) == 2
    if name == "redirect":
        assert "http://169.254.169.254/meta" in done.err
        assert "redirects are not followed" in done.err
    journal = tmp_path / "out.jsonl.journal" / JOURNAL_FILE
    assert journal.read_text().count('"answer"') == 2


ODD_USAGE = [
    None,
    "many",
    [1, 2],
    {"prompt_tokens": "7", "completion_tokens": "8"},
    {"prompt_tokens": -7, "completion_tokens": 8},
    {"prompt_tokens": {"n": 7}, "completion_tokens": 8},
    {"prompt_tokens": True, "completion_tokens": 8},
    {"prompt_tokens": 10**30, "completion_tokens": 8},
    {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
    {"prompt_tokens": 7, "completion_tokens": 8, "prompt_tokens_details": "x"},
    {"prompt_tokens": 7, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": -5}},
]


@pytest.mark.parametrize("usage", ODD_USAGE, ids=lambda usage: json.dumps(usage)[:60])
def test_an_odd_usage_costs_no_answer_and_is_told(usage: Any, generate: Any, tasks: Any) -> None:
    def answer(body: Any) -> Any:
        return iter([whole(json.dumps(completion(body, usage=usage)).encode())])

    with HostileServer(answer) as server:
        done = generate(server.url, tasks[2:3], "--per-row", 2, *FAST)
    assert done.rc == 0, done.err
    assert len(done.rows) == 2
    ledger = done.summary["measures"]["ledger"]
    assert ledger["cached_tokens"] == 0
    is_counted = isinstance(usage, dict) and usage["prompt_tokens"] == 7
    assert ledger["estimated_usage"] == (0 if is_counted else 2)
    assert ("the tokens of 2 replies are not known" in done.err) == (not is_counted)
    assert ledger["prompt_tokens"] > 0


def test_a_replay_says_that_nothing_was_spent(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve()
    first = generate(server, tasks[2:3], "--per-row", 2)
    assert "2 requests, " in first.err
    assert "replayed" not in first.err
    again = generate(server, tasks[2:3], "--per-row", 2)
    assert "2 requests replayed, nothing spent" in again.err
    assert "tokens" not in again.err
    more = generate(server, tasks[2:3], "--per-row", 3)
    assert "1 requests, " in more.err
    assert "2 requests replayed, nothing spent" in more.err


def test_a_key_that_comes_back_in_escapes_is_kept_nowhere(
    serve: Any, generate: Any, tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "canary-7f3a91c2d4"
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    monkeypatch.setenv("MY_KEY", key)

    def say(body: Any) -> Any:
        text = f'{{"input": "the owl knows {escaped} well", "positive_document": "so does {key}"}}'
        return text, f"stop {key}"

    done = generate(serve(write=say), tasks[2:3], "--api-key-env", "MY_KEY")
    assert done.rc == 0, done.err
    assert "[key]" in done.rows[0]["query"]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_text(errors="replace")
            assert key not in content, path
            assert escaped not in content, path


# --- the journal ---

ANSWER = Completion(
    text="Ünïcode 'text' \n", finish="stop", model="m", prompt_tokens=1, completion_tokens=2
)


def test_a_journal_cut_at_any_byte_of_its_last_lines_opens_and_goes_on(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    for number in range(4):
        journal.put(f"{number:032x}", ANSWER)
    journal.close()
    content = (tmp_path / JOURNAL_FILE).read_bytes()
    lines = content.splitlines(keepends=True)
    for size in range(len(content) - len(lines[-1]) - len(lines[-2]), len(content) + 1):
        (tmp_path / JOURNAL_FILE).write_bytes(content[:size])
        again = Journal(str(tmp_path))
        kept = content[:size].count(b"\n")
        assert len(again) == kept
        assert again.cut_bytes == size - sum(map(len, lines[:kept]))
        for number in range(kept, 4):
            again.put(f"{number:032x}", ANSWER)
        again.close()
        assert (tmp_path / JOURNAL_FILE).read_bytes() == content


def test_a_torn_last_line_is_told_and_asked_again(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve()
    generate(server, tasks[2:3], "--per-row", 2, "--concurrency", 1)
    [journal] = Path(os.environ["XDG_CACHE_HOME"]).parent.rglob(JOURNAL_FILE)
    journal.write_bytes(journal.read_bytes()[:-9])
    again = generate(server, tasks[2:3], "--per-row", 2)
    assert again.rc == 0
    assert "the last line of the journal was torn" in again.err
    assert len(server.chat_requests) == 3


def test_a_short_write_leaves_no_torn_line_for_the_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up in the midst of a line, and then has room again: another thread goes on."""
    journal = Journal(str(tmp_path))
    journal.put(f"{0:032x}", ANSWER)
    write = os.write
    room = [20]

    def fill(handle: int, data: Any) -> int:
        if threading.current_thread() is threading.main_thread() and room:
            left = room.pop()
            if left:
                room.append(0)
                return write(handle, bytes(data)[:left])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OSError, match="No space"):
        journal.put(f"{1:032x}", ANSWER)
    journal.put(f"{2:032x}", ANSWER)
    journal.close()
    monkeypatch.undo()
    again = Journal(str(tmp_path))
    assert [again.get(f"{number:032x}") for number in range(3)] == [ANSWER, None, ANSWER]
    assert again.cut_bytes == 0
    again.close()


def test_a_damaged_line_in_the_middle_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(b'{"note": {}}\n{"note": {}}{"no\n{"note": {}}\n')
    with pytest.raises(InputError, match="line 2 is damaged"):
        Journal(str(tmp_path))
