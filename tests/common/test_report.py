"""The account of rows, the summary line and progress."""

from __future__ import annotations

import json
import re

import pytest

from fletching.report import Report


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
        progress.due = 0
        progress.advance()
    report.finish()
    assert capsys.readouterr().err == ""
    content = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert content.pop("seconds") >= 0
    assert content == {
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


def test_progress_on_a_terminal_redraws_one_line_and_clears_it(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Report("t").progress("reading") as progress:
        progress.due = 0
        progress.advance(5)
    written = capsys.readouterr().err
    assert written.startswith("\rt: reading 5 rows")
    assert written.endswith("\r\x1b[K")
    assert "\n" not in written


def test_a_slow_rate_is_not_shown_as_zero():
    progress = Report("t").progress("training", 10, "steps")
    progress.done = 1
    assert progress._line(progress.started + 8) == "training 1 of 10 steps, 0.12/s, 1:12 left"
    assert "0.10/s" in progress._line(progress.started + 10)
    progress.done = 1000
    assert "100/s" in progress._line(progress.started + 10)
