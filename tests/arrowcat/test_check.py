"""--check: every invalid case of the schemas is found, with its row and value; valid files pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite import ROOT

INVALID = sorted((ROOT / "schemas").glob("*/v1/invalid/*.jsonl"))
VALID = sorted((ROOT / "schemas").glob("*/v1/examples/*.jsonl"))


@pytest.mark.parametrize("case", INVALID, ids=lambda path: f"{path.parents[2].name}-{path.stem}")
def test_an_invalid_case_is_found(case: Path, look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.parent)
    done = look(case.name, "--check", "--schema", case.parents[2].name, columns=200)
    assert done.rc == 1
    first, fix = case.with_suffix(".err").read_text("utf-8").splitlines()
    what = first.removeprefix(f"TOOL: {case.name}")
    assert f"✗ {case.name}: 1 violation" in done.text
    assert fix.strip() in done.text
    if what.startswith(", row "):
        row, rest = what.removeprefix(", row ").split(": ", 1)
        promise, value = rest.rsplit(" (", 1)
        assert f"  {promise}: 1 row\n    row {row}  {value[:-1]}\n" in done.text
    else:
        assert what in done.text


@pytest.mark.parametrize("path", VALID, ids=lambda path: f"{path.parents[2].name}-{path.stem}")
def test_a_valid_example_passes(path: Path, look: Any) -> None:
    done = look(path, "--check")
    assert done.rc == 0, done.text
    assert f"keep every promise of {path.parents[2].name} 1.0" in done.text


def test_every_violation_is_counted_and_the_first_are_listed(
    look: Any, write: Any, tmp_path: Path
) -> None:
    rows = [{"query": f"q{i}", "pos": ["a"], "neg": ["n"], "neg_ids": ["1"]} for i in range(20_000)]
    for number in range(0, 20_000, 1000):
        rows[number]["neg_ids"] = ["1", f"two {number}"]
    rows[9000] = {"query": None, "pos": [], "neg": None, "neg_ids": None}
    done = look(write(tmp_path / "in.parquet", rows), "--check")
    assert done.rc == 1
    assert "21 violations in 20,000 rows of examples 1.0" in done.text
    assert "`neg_ids` has not as many items as `neg`: 19 rows" in done.text
    assert '    row 8,001  ["1", "two 8000"]' in done.text
    assert "    … 9 more" in done.text
    assert "    row 9,001  null" in done.text
    assert "    row 9,001  []" in done.text


def test_inputs_are_checked_one_by_one(look: Any, write: Any, tmp_path: Path) -> None:
    good = write(tmp_path / "a.jsonl", [{"query": "q", "pos": ["a"]}])
    bad = write(tmp_path / "b.jsonl", [{"query": "q", "pos": []}])
    (tmp_path / "c.jsonl").write_text('{"query": "q", "pos": ["a"]}\n{"query": \n')
    summary = tmp_path / "summary.json"
    done = look(good, bad, tmp_path / "c.jsonl", "--check", "--json-summary", summary)
    assert done.rc == 1
    assert "✓ " + good in done.text
    assert "✗ " + bad in done.text
    assert "line 2: no JSON" in done.text
    assert json.loads(summary.read_text())["measures"]["violations"] == 2


def test_a_table_of_no_schema_is_no_valid_input(look: Any, write: Any, tmp_path: Path) -> None:
    done = look(write(tmp_path / "in.jsonl", [{"name": "x", "n": 1}]), "--check")
    assert done.rc == 1
    assert "fits none of the five schemas; it has `name`, `n`" in done.text


def test_a_missing_file_is_an_error_and_no_violation(look: Any, tmp_path: Path) -> None:
    done = look(tmp_path / "none.parquet", "--check")
    assert done.rc == 1
    assert "none.parquet does not exist" in done.err
    assert done.text == ""


def test_a_cut_stream_is_found(look: Any, stored: Any, scored: Any) -> None:
    whole = Path(stored(scored, "in.arrows")).read_bytes()
    assert look("-", "--check", stdin=whole).rc == 0
    done = look("-", "--check", stdin=whole[:-8])
    assert done.rc == 1
    assert "stdin ended early" in done.text
