"""Table formats: which one reads an input, and how a new one joins."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.io.tables.registry import TABLE_FORMATS, DetectedBy, TableFormat
from fletching.io.tables.table_input import TableInput
from fletching.protocols import Lineage

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

QA = ["--query", "q", "--pos", "a"]
SIGNATURE = b"TOY\n"


class ToyTable:
    """Cells one a line: the columns `q` and `a` in turn, under a line that says TOY."""

    columns = ["q", "a"]
    lineage_node = None

    def __init__(self, table: TableInput) -> None:
        self.lines = table.stream.read().decode().splitlines()[1:]

    @property
    def ends(self) -> list[Lineage]:
        return [{"rows": len(self.lines) // 2}]

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"q": self.lines[::2], "a": self.lines[1::2]})


@pytest.fixture
def toy_format(monkeypatch):
    assert "CSV" in TABLE_FORMATS  # the formats are discovered before they are copied
    monkeypatch.setattr(TABLE_FORMATS, "_entries", dict(TABLE_FORMATS.items()))
    TABLE_FORMATS.register(
        "toy",
        TableFormat(
            extensions=(".toy",),
            detected_by=DetectedBy.SIGNATURE,
            matches=lambda table: table.head(len(SIGNATURE)) == SIGNATURE,
            open=ToyTable,
        ),
    )


@pytest.mark.usefixtures("toy_format")
def test_a_registered_format_is_read_by_the_command_also_in_a_folder(pairs, tmp_path):
    (tmp_path / "a.toy").write_bytes(SIGNATURE + b"one\nx\ntwo\ny\n")
    (tmp_path / "b.csv").write_bytes(b"a,q\nz,three\n")
    result = pairs({}, tmp_path, *QA, "--negatives 2")
    assert [row["query"] for row in result.rows] == ["one", "two", "three"]
    assert [sorted(row["neg"]) for row in result.rows] == [["y", "z"], ["x", "z"], ["x", "y"]]


@pytest.mark.usefixtures("toy_format")
def test_a_registered_format_reports_a_missing_column_like_the_others(pairs):
    result = pairs(SIGNATURE + b"one\nx\n", "--query", "q", "--pos", "b", name="t.toy")
    assert result.rc == 2
    assert "t.toy has no column `b`; it has `q`, `a`" in result.err


def test_an_unregistered_signature_is_text(pairs):
    result = pairs(SIGNATURE + b"one\n", *QA, name="t.toy")
    assert result.rc == 2
    assert "it has `TOY`" in result.err


def test_every_table_format_reads_the_same_rows(pairs):
    rows = {"q": ["one", "two"], "a": ["x", "y"]}
    table = pa.table(rows)
    parquet, arrow_file, arrow_stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow_file, table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(arrow_stream, table.schema) as writer:
        writer.write_table(table)
    contents = {
        "t.parquet": parquet.getvalue(),
        "t.arrow": arrow_file.getvalue(),
        "t.arrows": arrow_stream.getvalue(),
        "t.csv": b"q,a\none,x\ntwo,y\n",
        "t.tsv": b"q\ta\none\tx\ntwo\ty\n",
        "t.jsonl": b'{"q": "one", "a": "x"}\n{"q": "two", "a": "y"}\n',
        "t.json": b'[{"q": "one", "a": "x"}, {"q": "two", "a": "y"}]',
    }
    expected = pairs(contents["t.csv"], *QA).rows
    assert [row["query"] for row in expected] == rows["q"]
    for name, content in contents.items():
        assert pairs(content, *QA, name=name).rows == expected


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
def test_a_csv_by_name_is_a_csv_whatever_it_begins_with(pairs, name):
    result = pairs(b"{x,q,a\n0,one,y\n", *QA, name=name)
    assert [row["query"] for row in result.rows] == ["one"]


def test_parquet_and_arrow_files_are_read_from_a_pipe(run, tmp_path):
    table = pa.table({"q": ["one"], "a": ["x"]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("t.parquet", "t.arrow"):
        done = run(f"cat {name} | csv2pairs --query q --pos a -o out.jsonl", cwd=tmp_path)
        assert done.rc == 0, done.err
        assert '"query":"one"' in (tmp_path / "out.jsonl").read_text()
