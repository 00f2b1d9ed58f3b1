"""The account of rows, the summary line and progress."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples


def test_the_account_balances_with_additions_and_drops_or_is_a_bug():
    report = Report("t")
    report.rows_in, report.rows_out = 10, 9
    report.add("made", 2)
    report.drop("too short", 3)
    report.check()
    report.drop("lost", 1)
    with pytest.raises(RuntimeError, match="rows do not add up: 10 in, 9 out"):
        report.check()


def test_the_summary_names_every_reason_in_order_and_no_reason_without_rows(capsys):
    report = Report("simfilter")
    report.rows_in, report.rows_out = 12_034, 9_872
    report.drop("below 0.70", 2163)
    report.drop("above 0.99", 0)
    report.add("copies")
    report.finish()
    assert re.fullmatch(
        r"simfilter: 12,034 in, 9,872 out \(\+1 copies, 2,163 below 0.70\), \d\.\d s\n",
        capsys.readouterr().err,
    )


def test_quiet_says_nothing_and_still_writes_the_json_summary(tmp_path, capsys):
    report = Report("t", quiet=True, json_summary=str(tmp_path / "summary.json"))
    report.note("a note — né")
    report.measures["loss"] = 0.5
    report.rows_in = 1
    report.drop("reason")
    with report.progress("doing") as progress:
        progress._next_line = 0
        progress.advance()
    report.finish()
    assert capsys.readouterr().err == ""
    content = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert content.pop("seconds") >= 0
    assert content == {
        "schema": "summary",
        "schema_version": "1.0",
        "tool": "t",
        "rows_in": 1,
        "rows_out": 0,
        "added": {},
        "dropped": {"reason": 1},
        "measures": {"loss": 0.5},
        "notes": ["a note — né"],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_progress_off_a_terminal_is_plain_lines_not_more_often_than_every_ten_seconds(
    capsys, monkeypatch
):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    with Report("t").progress("scoring", total=100, unit="pairs") as progress:
        for _ in range(6):
            progress.advance(10, "loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3
    assert re.fullmatch(r"t: scoring \d+ of 100 pairs, [\d.,]+/s, 0:\d\d left, loss 0.5", lines[0])


# --- on a terminal -------------------------------------------------------------------------------

COLUMNS = 80
PROGRAM = """
import sys, time
from fletching.report import Report

report = Report(sys.argv[1])
with report.progress("training the student on all its texts", total=TOTAL, unit="texts") as progress:
    for number in range(6):
        time.sleep(0.15)
        progress.advance(1, "loss 0.5, gradient norm 1.25, learning rate 1e-4, collapse 0.75")
        if number == 3:
            report.note("half of it is done")
report.finish()
"""


def on_terminal(command: str, folder, total: int | None = 6) -> str:
    """What a bash command writes to a terminal of 80 columns; `program NAME` is a tool."""
    (folder / "tool.py").write_text(PROGRAM.replace("TOTAL", str(total)))
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    line = command.replace("program", f"{sys.executable} tool.py")
    process = subprocess.Popen(["bash", "-c", line], stdout=terminal, stderr=terminal, cwd=folder)
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # the terminal is closed by the last process that has it
        while chunk := os.read(main, 4096):
            written += chunk
    os.close(main)
    assert process.wait() == 0
    return written.decode()


def drawn_lines(written: str) -> list[str]:
    """Each text between two moves of the cursor to the start of a line."""
    return re.split(r"[\r\n]+", written.replace("\x1b[K", ""))


@pytest.mark.parametrize("total", [6, None])
def test_a_line_of_progress_never_wraps_and_is_erased_at_the_end(total, tmp_path):
    written = on_terminal("program contrast-train", tmp_path, total)
    lines = drawn_lines(written)
    bars = [line for line in lines if line.startswith("contrast-train: training")]
    assert len(bars) >= 3
    assert max(map(len, lines)) < COLUMNS
    *_, last_bar, erased, _, _ = lines
    assert last_bar in bars
    assert erased.strip() == ""
    assert "\x1b[Kcontrast-train: half of it is done\r\n" in written
    assert re.search(r"contrast-train: 0 in, 0 out, \d\.\d s\r\n$", written)


def test_of_a_pipeline_the_last_tool_alone_draws_a_bar(tmp_path):
    written = on_terminal("program first | program last", tmp_path)
    lines = drawn_lines(written)
    assert [line for line in lines if line.startswith("last: training")]
    assert not [line for line in lines if line.startswith("first: training")]
    assert written.count("half of it is done\r\n") == 2
    assert len(re.findall(r"\x1b\[K(?:first|last): 0 in, 0 out, \d\.\d s\r\n", written)) == 2


def test_lines_of_a_tool_within_a_pipeline_are_clipped_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("fletching.report._is_piped_onward", lambda: True)
    with Report("t").progress("reading") as progress:
        progress._next_line = 0
        progress.advance(5, "x" * 100)
    written = capsys.readouterr().err
    assert written.startswith("\r\x1b[Kt: reading 5 rows")
    assert written.endswith("x\n")
    assert len(written) == len("\r\x1b[K") + COLUMNS


def test_no_progress_is_drawn_where_the_tool_is_quiet(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Report("t", quiet=True).progress("reading") as progress:
        progress.advance(5)
    assert capsys.readouterr().err == ""


def test_a_slow_rate_is_not_shown_as_zero():
    progress = Report("t").progress("training", 10, "steps")
    progress.done = 1
    assert progress.line(progress.started + 8) == "t: training 1 of 10 steps, 0.12/s, 1:12 left"
    assert "0.10/s" in progress.line(progress.started + 10)
    progress.done = 1000
    assert "100/s" in progress.line(progress.started + 10)
