"""-o and --to: the same rows in every file format and, as far as they carry them, in every row format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite import ROOT

from fletching.io import Reader
from fletching.io.row_formats import ROW_FORMATS
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

FILE_FORMATS = ("parquet", "arrow", "feather", "arrows", "jsonl", "jsonl.gz", "jsonl.zst")
WRITTEN = [name for name, each in ROW_FORMATS.items() if each.from_examples is not None]


def rows_of(path: Any, schema: str = "examples") -> list[dict[str, Any]]:
    return Reader(Report("test", quiet=True), [str(path)], schema).read_all().to_pylist()


@pytest.mark.parametrize("extension", FILE_FORMATS)
def test_every_file_format_carries_every_column(
    extension: str, look: Any, stored: Any, scored: Any, tmp_path: Path
) -> None:
    source = stored(scored)
    out = tmp_path / f"out.{extension}"
    done = look(source, "-o", out)
    assert done.rc == 0, done.err
    assert "arrowcat: 6 in, 6 out" in done.err
    assert done.out == b""
    assert rows_of(out) == rows_of(source)


@pytest.mark.parametrize("name", ["texts", "vectors", "tasks", "measures"])
def test_every_schema_is_written(name: str, look: Any, tmp_path: Path) -> None:
    path = ROOT / "schemas" / name / "v1" / "examples" / "full.jsonl"
    out = tmp_path / "out.parquet"
    assert look(path, "-o", out).rc == 0
    assert rows_of(out, name) == rows_of(path, name)
    assert look(out, "--check").rc == 0


def test_what_is_written_keeps_the_contract(look: Any, write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", [{"query": "q", "pos": ["a"]}, {"query": None, "pos": []}])
    done = look(path, "-o", tmp_path / "out.parquet")
    assert done.rc == 1
    assert "in.jsonl, row 2: `query` is null" in done.err
    assert not (tmp_path / "out.parquet").exists()
    done = look(path, "--head", 1, "-o", tmp_path / "out.parquet")
    assert done.rc == 0


def test_json_lines_on_stdout(look: Any, stored: Any, scored: Any) -> None:
    done = look(stored(scored), "--head", 2, "-o", "-.jsonl")
    assert done.rc == 0, done.err
    assert [json.loads(line)["id"] for line in done.text.splitlines()] == ["r0", "r1"]


def test_a_stream_on_stdout_is_an_input_of_the_next_tool(
    run: Any, stored: Any, scored: Any, tmp_path: Path
) -> None:
    source = stored(scored)
    done = run(f"arrowcat {source} --head 4 -o - | arrowcat -o {tmp_path}/out.parquet")
    assert done.rc == 0, done.err
    assert rows_of(tmp_path / "out.parquet") == rows_of(source)[:4]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_row_format_is_read_back_and_what_it_lacks_is_counted(
    name: str, look: Any, stored: Any, scored: Any, tmp_path: Path
) -> None:
    source = stored(scored)
    file_name = "triples.tsv" if name.endswith("tsv") else "out.jsonl"
    out = tmp_path / ("out" if ROW_FORMATS[name].is_folder else file_name)
    summary = tmp_path / "summary.json"
    done = look(source, "--to", name, "-o", out, "--json-summary", summary)
    assert done.rc == 0, done.err
    account = json.loads(summary.read_text())
    assert account["rows_in"] == 6
    assert account["rows_out"] == 6
    assert account["measures"]["records"] >= 1
    for what, count in account["measures"]["not_carried"].items():
        assert f"{count:,} {what}" in done.err
    before = {row["query"]: row for row in rows_of(source)}
    for row in rows_of(out):
        assert set(row["pos"]) <= set(before[row["query"]]["pos"])
        # A column of another format may hold no nulls: [] then stands for null.
        assert set(row.get("neg") or []) <= set(before[row["query"]]["neg"] or [])


def test_formats_that_do_not_exist_or_are_no_row_formats_are_refused(
    look: Any, stored: Any, scored: Any, tmp_path: Path
) -> None:
    source = stored(scored)
    done = look(source, "--to", "n-tupel", "-o", tmp_path / "out.jsonl")
    assert done.rc == 2
    assert "did you mean n-tuple?" in done.err
    done = look(source, "--to", "parquet", "-o", tmp_path / "out.parquet")
    assert done.rc == 2
    assert "the name of -o says it" in done.err
    done = look(source, "--to", "n-tuple", "-o", "-")
    assert done.rc == 2
    assert "-o -.jsonl" in done.err
    assert not (Path.cwd() / "-").exists()
    done = look(source, "--to", "n-tuple", "-o", tmp_path / "out.xyz")
    assert done.rc == 2
    assert "no known extension" in done.err


def test_the_readme_names_every_row_format() -> None:
    readme = (ROOT / "tools" / "arrowcat" / "README.md").read_text("utf-8")
    assert [name for name in WRITTEN if f"`{name}`" not in readme] == []
