"""Standard streams that are closed or full, outputs that are no regular files, folders of the user."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from suite import COMMANDS, call, rows_for

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

ROW = "pairs.csv"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with a table of two pairs."""
    (tmp_path / ROW).write_text(
        "query,pos\nfirst question,first answer\nsecond one,second answer\n"
    )
    return tmp_path


PAIRS = f"csv2pairs {ROW} --query query --pos pos"


@pytest.mark.parametrize("name", ["/dev/stderr", "/dev/fd/2", "link"])
def test_a_summary_for_stderr_goes_into_the_file_that_it_leads_to(
    name: str, table: Path, run: Any
) -> None:
    (table / "link").symlink_to("/proc/self/fd/2")
    done = run(f"{PAIRS} -o out.jsonl --json-summary {name} 2> log", cwd=table)
    assert done.rc == 0
    log = (table / "log").read_text()
    assert json.loads(log[log.index("{") :])["rows_out"] == 2
    assert log.startswith("csv2pairs: ")
    assert os.path.islink("/dev/stderr")
    assert sorted(os.listdir(table)) == ["link", "log", "out.jsonl", ROW]


def test_a_device_takes_the_summary_and_the_page_and_stays_a_device(table: Path, run: Any) -> None:
    device = table / "device"
    try:
        os.mknod(device, 0o600 | 0o020000, os.stat(os.devnull).st_rdev)
        device.open("wb").close()
    except PermissionError:
        pytest.skip("devices cannot be made here")
    done = run(f"{PAIRS} -o out.jsonl --json-summary device", cwd=table)
    assert done.rc == 0, done.err
    done = run("arrowcat out.jsonl --html device", cwd=table)
    assert done.rc == 0, done.err
    assert device.is_char_device()
    assert sorted(os.listdir(table)) == ["device", "out.jsonl", ROW]


def test_a_closed_stderr_never_sends_messages_to_stdout(table: Path, run: Any) -> None:
    done = run(f"{PAIRS} 2>&- > out.arrows", cwd=table)
    assert done.rc == 0
    whole = (table / "out.arrows").read_bytes()
    assert run("arrowcat out.arrows", cwd=table).rc == 0
    done = run(f"{PAIRS} --query nothing 2>&- > out.arrows", cwd=table)
    assert done.rc == 2
    assert (table / "out.arrows").read_bytes() != whole
    assert b"fix:" not in (table / "out.arrows").read_bytes()


@pytest.mark.parametrize("stderr", ["2>&-", "2> /dev/full", "2>&1 | true"])
def test_what_is_published_is_a_success_whatever_becomes_of_stderr(
    stderr: str, table: Path, run: Any
) -> None:
    done = run(f"{PAIRS} -o out.jsonl {stderr}", cwd=table)
    assert done.rc == 0, done.err
    assert len((table / "out.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("words", [PAIRS, f"{PAIRS} -o -.jsonl"])
def test_a_closed_stdout_is_refused_before_any_work(words: str, table: Path, run: Any) -> None:
    done = run(f"{words} >&-", cwd=table)
    assert done.rc == 2
    assert done.err.startswith("csv2pairs: stdout is closed\n  fix: name a file")


@pytest.mark.parametrize("tool", ["distill", "contrast-train", "mntp"])
def test_a_trainer_without_stdout_ends_in_its_own_words(
    tool: str, tmp_path: Path, run: Any
) -> None:
    """Python gives a stream that was closed before the start no object to flush."""
    done = run(f"{tool} nothing.jsonl -o model >&-", cwd=tmp_path)
    assert done.rc in (1, 2)
    assert done.err.count("\n") == 2, done.err
    assert "fix:" in done.err


@pytest.mark.parametrize("words", ["--help", "--version"])
def test_help_that_nobody_can_read_is_an_error(words: str, table: Path, run: Any) -> None:
    for stream in (">&-", "> /dev/full"):
        done = run(f"csv2pairs {words} {stream}", cwd=table)
        assert done.rc == 1, done.err
        assert done.err.count("\n") == 2, done.err


def test_closed_streams_do_not_leak_into_the_files(table: Path, run: Any) -> None:
    expected = run(f"{PAIRS} -o whole.jsonl", cwd=table)
    assert expected.rc == 0
    done = run(f"{PAIRS} -o out.jsonl <&- >&- 2>&-", cwd=table)
    assert done.rc == 0
    assert (table / "out.jsonl").read_bytes() == (table / "whole.jsonl").read_bytes()
    done = run("csv2pairs --query query --pos pos -o out.jsonl <&-", cwd=table)
    assert done.rc in (1, 2)
    assert "unexpected" not in done.err


# --- the folder of vectors ------------------------------------------------------------------------

FILTER = ["simfilter", "in.parquet", "--score-only", "-o", "out.parquet"]


@pytest.fixture
def examples_here(tmp_path: Path, write: Any) -> Path:
    """A folder with examples in `in.parquet`."""
    write(tmp_path / "in.parquet", rows_for(COMMANDS["simfilter"]))
    return tmp_path


def commands_beside_an_output(model: str) -> dict[str, tuple[list[str], str]]:
    """Commands that keep vectors beside their output, and that folder."""
    evaluate = ["mteb-eval", model, "--examples", "own=in.parquet", "-o", "out.parquet"]
    distill = COMMANDS["distill"].argv("texts.parquet", model, "out")
    rerank = [*FILTER, "--model", model]
    return {
        "simfilter": (rerank, "out.parquet.cache"),
        "mteb-eval": (evaluate, "out.parquet.cache"),
        "distill": (distill, "out.cache"),
    }


@pytest.mark.parametrize("name", ["simfilter", "mteb-eval", "distill"])
def test_a_folder_of_the_user_with_the_name_of_the_cache_is_refused_and_kept(
    name: str, examples_here: Path, model: str, write: Any
) -> None:
    write(examples_here / "texts.parquet", rows_for(COMMANDS["distill"]))
    words, folder = commands_beside_an_output(model)[name]
    kept = examples_here / folder / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    done = call(words, cwd=examples_here)
    assert done.rc == 2, done.err
    assert f"{folder}, where vectors are kept" in done.err
    assert "--cache DIR" in done.err
    assert kept.read_text() == "years of work"
    assert os.listdir(examples_here / folder) == ["thesis.txt"]


def test_what_the_user_put_into_the_cache_of_a_failed_run_stays(
    examples_here: Path, model: str
) -> None:
    from fletching.encode.temporary_cache import MARKER

    folder = examples_here / "out.parquet.cache"
    folder.mkdir()
    (folder / MARKER).touch()  # as a killed run leaves it
    (folder / "thesis.txt").write_text("years of work")
    done = call([*FILTER, "--model", model], cwd=examples_here)
    assert done.rc == 0, done.err
    assert os.listdir(folder) == ["thesis.txt"]


def test_no_cache_is_made_beside_a_device_or_a_stream(examples_here: Path, model: str) -> None:
    for output in ("/dev/null", "-.jsonl"):
        words = ["simfilter", "in.parquet", "--score-only", "-o", output, "--model", model]
        done = call(words, cwd=examples_here)
        assert done.rc == 0, done.err
        assert os.listdir(examples_here) == ["in.parquet"]
    assert not os.path.exists("/dev/null.cache")


# --- the end of a process -------------------------------------------------------------------------


def test_a_tool_that_refuses_a_long_table_ends(tmp_path: Path, run: Any) -> None:
    """A thread of pyarrow reads ahead: taken down with Python it aborted, or never ended."""
    rows = (f"query number {number},answer number {number}\n" for number in range(600_000))
    with gzip.open(tmp_path / "rows.csv.gz", "wt", compresslevel=1) as file:
        file.writelines(["query,pos\n", "too,many,cells\n", *rows])
    for _ in range(3):
        done = run("timeout 20 arrowcat rows.csv.gz -o out.jsonl", cwd=tmp_path)
        assert done.rc == 1, done.err
        assert "row 1: 3 cells instead of 2" in done.err


def test_a_folder_may_hold_more_tables_than_files_may_be_open(tmp_path: Path, run: Any) -> None:
    (tmp_path / "tables").mkdir()
    for number in range(100):
        (tmp_path / "tables" / f"{number}.csv").write_text(f"query,pos\nq{number},a{number}\n")
    words = "csv2pairs tables --query query --pos pos -o out.jsonl"
    done = run(f"ulimit -n 64; {words}", cwd=tmp_path)
    assert done.rc == 0, done.err
    assert "100 in, 100 out" in done.err
