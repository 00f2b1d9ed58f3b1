"""JSON lines whose columns show late, hold nulls alone, or wide numbers; columns without a name."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.errors import InputError
from fletching.io import Reader, Writer
from fletching.report import Report

sys.path.insert(0, str(Path(__file__).parent))
from streams import numbered

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

BLOCK = 8192
WIDE = 2**63 + 5

Row = dict[str, Any]


def lines(path: Path, rows: list[Row]) -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def open_reader(path: Any, **settings: Any) -> Reader:
    return Reader(Report("reader", quiet=True), [str(path)], "examples", **settings)


def copied(path: Path, target: Path) -> pa.Table:
    """The rows of a file through Reader and Writer, read again."""
    rows = open_reader(path)
    with Writer(rows.report, str(target), "examples", rows.columns, version="1", options={}) as out:
        for batch in rows:
            out.write(batch)
    return open_reader(target).read_all()


def late_rows() -> list[Row]:
    rows = numbered(BLOCK + 10)
    rows[BLOCK + 1] |= {"neg": ["n"], "neg_scores": [1]}
    rows[BLOCK + 2] |= {"extra": 1, "nested": {"a": 1}}
    rows[BLOCK + 3] |= {"extra": 0.5, "nested": {"b": "x"}}
    return rows


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json"])
def test_a_column_that_comes_late_is_read(ending, tmp_path):
    path = tmp_path / f"rows{ending}"
    rows = late_rows()
    if ending == ".json":
        path.write_text(json.dumps(rows))
    else:
        lines(path, rows)
    table = open_reader(path).read_all()
    assert table["neg"][BLOCK + 1].as_py() == ["n"]
    assert table["extra"].to_pylist()[BLOCK + 2 : BLOCK + 4] == [1.0, 0.5]
    assert table["nested"][BLOCK + 3].as_py() == {"a": None, "b": "x"}
    assert table["nested"].null_count == len(rows) - 2


def test_a_column_that_comes_late_in_a_pipe_is_read(tmp_path, monkeypatch):
    content = lines(tmp_path / "rows.jsonl", late_rows()).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert open_reader("-").read_all()["neg"].null_count == BLOCK + 9


def test_a_limit_looks_at_no_more_rows_than_it_reads(tmp_path):
    rows = late_rows()
    path = lines(tmp_path / "rows.jsonl", rows)
    path.write_bytes(path.read_bytes() + b"{broken")
    assert open_reader(path, limit=10).read_all().column_names == ["id", "query", "pos"]
    with pytest.raises(InputError, match="no JSON"):
        open_reader(path)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".arrow"])
def test_our_own_output_with_late_and_empty_columns_comes_back(ending, tmp_path):
    rows = late_rows()
    rows[0] |= {"empty": None, "": "no name"}
    path = lines(tmp_path / "rows.jsonl", rows)
    table = open_reader(path).read_all()
    again = copied(path, tmp_path / f"out{ending}")
    assert again.column_names == table.column_names
    assert {"empty", ""} <= set(again.column_names)
    assert again.to_pylist() == table.to_pylist()


def test_only_columns_that_are_null_at_first_are_named_in_json_lines(tmp_path):
    rows = [{"id": "1", "query": "q", "pos": ["p"], "a": None, "b": None}]
    rows += [{"id": "2", "query": "q", "pos": ["p"], "a": None, "b": 1}]
    path = lines(tmp_path / "rows.jsonl", rows)
    copied(path, tmp_path / "out.jsonl")
    first, second = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(first) == {"id": "1", "query": "q", "pos": ["p"], "a": None}
    assert json.loads(second) == {"id": "2", "query": "q", "pos": ["p"], "b": 1}


def test_wide_whole_numbers_are_what_they_are(tmp_path):
    rows = [{"id": WIDE, "query": "q", "pos": ["p"], "pos_ids": [2**70], "hash": WIDE}]
    path = lines(tmp_path / "rows.jsonl", rows)
    row = open_reader(path).read_all().to_pylist()[0]
    assert (row["id"], row["pos_ids"], row["hash"]) == (str(WIDE), [str(2**70)], WIDE)
    table = pa.table({"id": pa.array([WIDE], pa.uint64()), "query": ["q"], "pos": [["p"]]})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert open_reader(tmp_path / "rows.parquet").read_all()["id"].to_pylist() == [str(WIDE)]


def test_one_text_and_lists_of_texts_mix(tmp_path):
    rows = [{"query": "q", "pos": "p"}, {"query": "q", "pos": ["p", "r"]}]
    table = open_reader(lines(tmp_path / "rows.jsonl", rows)).read_all()
    assert table["pos"].to_pylist() == [["p"], ["p", "r"]]


def test_json_lines_go_to_stdout(tmp_path, run):
    path = lines(tmp_path / "rows.jsonl", [{"query": "q", "pos": ["p"]}])
    done = run(["csv2pairs", path, "--query", "query", "--pos", "pos", "-o", "-.jsonl"])
    assert done.rc == 0, done.err
    assert json.loads(done.text)["pos"] == ["p"]
