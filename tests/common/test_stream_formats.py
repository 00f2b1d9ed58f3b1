"""Every format, every producer, every way to name an input: the same rows."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tempfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.errors import InputError, UsageError
from fletching.io import Reader
from fletching.report import Report

sys.path.insert(0, os.path.dirname(__file__))
from streams import FORMATS, columns_of, numbered, read, write

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ODD = [
    "\x00",
    "\u202e abc",
    "\ufeff",
    "e\u0301",
    "é",
    "👩‍👩‍👧",
    "\r\n",
    "\u2028",
    "",
    " ",
    '"',
    "\\",
    "\U0010ffff",
    "\ud7ff\ue000",
]
text = st.text(max_size=6) | st.sampled_from(ODD)
number = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def rows(draw) -> list[dict]:
    """Rows of `examples` with all kinds of texts, lists, nulls and an unknown column."""
    content = []
    for i in range(draw(st.integers(1, 5))):
        pos = draw(st.lists(text, min_size=1, max_size=3))
        neg = draw(st.none() | st.lists(text, max_size=2))
        row = {
            "id": f"{i}",
            "query": draw(text),
            "pos": pos,
            "neg": neg,
            "prompt": draw(st.none() | text),
            "extra": draw(text),
        }
        row["pos_scores"] = draw(st.none() | st.lists(number, min_size=len(pos), max_size=len(pos)))
        row["neg_ids"] = (
            None
            if neg is None
            else draw(st.none() | st.lists(text, min_size=len(neg), max_size=len(neg)))
        )
        content.append(row)
    return content


@pytest.mark.parametrize("ending", FORMATS)
@settings(max_examples=25)
@given(rows())
def test_rows_come_back_from_every_format_as_they_were(ending, content):
    with tempfile.TemporaryDirectory() as folder:
        path = write(os.path.join(folder, "rows" + ending), content)
        back = read(path)
        # JSON lines leave nulls out: a column of nothing but nulls is not there any more.
        assert [{name: row.get(name) for name in content[0]} for row in back] == content


@pytest.mark.parametrize("ending", FORMATS)
def test_no_rows_are_a_valid_file_and_one_row_too(ending, tmp_path):
    assert read(write(tmp_path / f"none{ending}", [])) == []
    assert read(write(tmp_path / f"one{ending}", numbered(1))) == numbered(1)


@pytest.mark.parametrize("ending", FORMATS)
def test_the_cut_of_the_rows_into_batches_does_not_change_the_bytes(ending, tmp_path):
    content = numbered(20_000)
    whole = write(tmp_path / f"a{ending}", content).read_bytes()
    assert write(tmp_path / f"b{ending}", content, batches=3).read_bytes() == whole
    assert write(tmp_path / f"c{ending}", content, batches=211).read_bytes() == whole


def test_batches_that_are_read_depend_on_the_rows_alone(tmp_path):
    content = numbered(20_000)
    write(tmp_path / "whole.arrows", content)
    table = pa.Table.from_pylist(content)
    pq.write_table(table, tmp_path / "groups.parquet", row_group_size=777)
    pq.write_table(table.slice(0, 9_000), tmp_path / "part-1.parquet")
    pq.write_table(table.slice(9_000), tmp_path / "part-2.parquet")

    def sizes(*names):
        return [
            batch.num_rows
            for batch in Reader(Report("r"), [str(tmp_path / name) for name in names], "examples")
        ]

    assert (
        sizes("whole.arrows")
        == sizes("groups.parquet")
        == sizes("part-1.parquet", "part-2.parquet")
        == [8192, 8192, 3616]
    )


def test_a_row_above_64_megabytes_stands_alone_and_other_batches_stay_below(tmp_path):
    content = [{"id": str(i), "query": "q" * (30 << 20), "pos": ["p"]} for i in range(5)]
    path = write(tmp_path / "large.arrows", content)
    with pa.ipc.open_stream(str(path)) as stream:
        assert all(batch.nbytes <= 64 << 20 for batch in stream)
    assert [row["id"] for row in read(path)] == list("01234")


# --- other producers -----------------------------------------------------------------------------


def by_pyarrow_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as out:
        out.write_table(table)


def by_pyarrow_file(table, path):
    with pa.ipc.new_file(path, table.schema) as out:
        out.write_table(table, max_chunksize=5)


def by_polars_parquet(table, path):
    import polars

    polars.from_arrow(table).write_parquet(path)


def by_polars_stream(table, path):
    import polars

    polars.from_arrow(table).write_ipc_stream(path)


def by_polars_file(table, path):
    import polars

    polars.from_arrow(table).write_ipc(path, compression="zstd")


def by_polars_lines(table, path):
    import polars

    polars.from_arrow(table).write_ndjson(path)


def by_pandas(table, path):
    table.to_pandas().to_parquet(path)


def by_duckdb(table, path):
    import duckdb

    duckdb.sql(
        f"copy (select * from table) to '{path}' (format parquet)".replace(
            "from table", "from rows"
        ),
        connection=_duck(table),
    )


def _duck(table):
    import duckdb

    connection = duckdb.connect()
    connection.register("rows", table)
    return connection


def by_json_array(table, path):
    with open(path, "w", encoding="utf-8-sig") as file:
        json.dump(table.to_pylist(), file, indent=1)


def by_dictionaries(table, path):
    import duckdb  # noqa: F401

    encoded = table.set_column(1, "query", table["query"].dictionary_encode())
    by_pyarrow_stream(encoded.set_column(0, "id", table["id"].cast(pa.string_view())), path)


PRODUCERS = [
    by_pyarrow_stream,
    by_pyarrow_file,
    by_polars_parquet,
    by_polars_stream,
    by_polars_file,
    by_polars_lines,
    by_pandas,
    by_duckdb,
    by_json_array,
    by_dictionaries,
]


@pytest.mark.parametrize("produce", PRODUCERS, ids=lambda produce: produce.__name__)
def test_files_of_other_programs_are_read_as_they_are(produce, tmp_path, examples):
    content = [
        row | {"neg": ["né", "n"] if i % 2 else None, "rank": i} for i, row in enumerate(examples)
    ]
    path = str(tmp_path / "foreign.bin")
    produce(pa.Table.from_pylist(content), path)
    assert [{name: row[name] for name in content[0]} for row in read(path)] == content


# --- naming inputs -------------------------------------------------------------------------------


def test_several_files_with_different_unknown_columns_become_one_with_nulls(tmp_path):
    write(tmp_path / "a.parquet", [{"id": "1", "query": "q", "pos": ["a"], "x": 1}])
    write(tmp_path / "b.jsonl", [{"id": "2", "query": "q", "pos": ["b"], "neg": ["n"], "y": "why"}])
    write(tmp_path / "c.arrows", [{"id": "3", "query": "q", "pos": ["c"], "x": 3}])
    back = read(tmp_path / "a.parquet", tmp_path / "b.jsonl", tmp_path / "c.arrows")
    assert [(row["id"], row["neg"], row["x"], row["y"]) for row in back] == [
        ("1", None, 1, None),
        ("2", ["n"], None, "why"),
        ("3", None, 3, None),
    ]
    write(tmp_path / "d.parquet", [{"id": "4", "query": "q", "pos": ["d"], "x": "text"}])
    with pytest.raises(
        InputError, match=r"d.parquet: column `x` is string, but int64 in an input before"
    ):
        read(tmp_path / "a.parquet", tmp_path / "d.parquet")


def test_folders_globs_and_urls_name_files_in_order(tmp_path):
    for name in ("b.parquet", "a.jsonl", ".hidden.jsonl", "_skipped.parquet", "notes.txt"):
        (tmp_path / name).write_text("no data")
    for i, name in enumerate(("b.parquet", "a.jsonl", "c.jsonl.zst")):
        write(tmp_path / name, [{"id": str(i), "query": "q", "pos": ["p"]}])

    def ids(*inputs):
        return "".join(row["id"] for row in read(*inputs))

    assert ids(tmp_path) == "102"
    assert ids(tmp_path / "c.jsonl.zst", tmp_path / "b.parquet") == "20"
    assert ids(tmp_path / "*.jsonl*") == "12"
    assert ids(f"file://{tmp_path}/b.parquet") == "0"
    assert ids(f"file://{tmp_path}/*.jsonl*") == "12"
    for name in ("a.jsonl", "b.parquet", "c.jsonl.zst"):
        fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/{name}", (tmp_path / name).read_bytes())
    assert (
        ids(f"memory://{tmp_path.name}/b.parquet", f"memory://{tmp_path.name}/c.jsonl.zst") == "02"
    )
    assert ids(f"memory://{tmp_path.name}/*.*") == "102"


@pytest.mark.parametrize(
    "name",
    [
        "missing.parquet",
        "*.nothing",
        "memory://no/such.parquet",
        "memory://no/such/*.parquet",
        "unknown://x/y.parquet",
    ],
)
def test_an_input_that_is_not_there_is_refused_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        read(name)
    assert name in refused.value.what


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path):
    assert len(read(write(tmp_path / "a[1].jsonl", numbered(2)))) == 2


def test_a_folder_without_data_and_stdin_beside_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no .*.parquet"):
        read(tmp_path)
    with pytest.raises(UsageError, match="is combined with other inputs"):
        read("-", tmp_path)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_read_from_stdin_by_its_content(ending, tmp_path, monkeypatch):
    path = write(tmp_path / f"rows{ending}", numbered(5))

    class Pipe(io.RawIOBase):
        """Bytes that come in small pieces and cannot be sought."""

        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            piece = self.data.read(min(len(buffer), 7))
            buffer[: len(piece)] = piece
            return len(piece)

    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BufferedReader(Pipe(path.read_bytes()), 16))
    )
    assert read("-") == numbered(5)


def test_a_terminal_on_stdin_is_refused_at_once(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(UsageError, match="stdin is a terminal"):
        read()


def test_limit_reads_the_first_rows_alone_across_files(tmp_path):
    paths = [write(tmp_path / f"{i}.arrows", numbered(10)) for i in range(2)]
    assert [row["id"] for row in read(*paths, limit=12)] == [f"row-{i}" for i in [*range(10), 0, 1]]
    assert len(read(*paths, limit=100)) == 20


def test_concatenated_streams_are_read_to_the_end(tmp_path):
    one, two = (write(tmp_path / f"{i}.arrows", numbered(10)).read_bytes() for i in range(2))
    (tmp_path / "both.arrows").write_bytes(one + two)
    assert read(tmp_path / "both.arrows") == numbered(10) * 2
    (tmp_path / "cut.arrows").write_bytes(one + two[:-20])
    with pytest.raises(InputError, match="cut.arrows"):
        read(tmp_path / "cut.arrows")


def test_every_part_of_a_concatenated_stream_must_be_of_our_version(tmp_path):
    ours = write(tmp_path / "ours.arrows", numbered(10)).read_bytes()
    # Same length, so that the message stays well formed; the version stands in the metadata, which no digest covers.
    foreign = ours.replace(b'"version":"1.0"}', b'"version":"2.0"}')
    assert foreign != ours
    (tmp_path / "both.arrows").write_bytes(ours + foreign)
    with pytest.raises(InputError, match=r"both.arrows is examples 2.0, and 1.0 is read here"):
        read(tmp_path / "both.arrows")


def test_a_concatenated_stream_with_fewer_columns_is_read_and_with_more_refused(tmp_path):
    plain = write(tmp_path / "plain.arrows", numbered(2)).read_bytes()
    more = write(
        tmp_path / "more.arrows", [row | {"extra": "e"} for row in numbered(2)]
    ).read_bytes()
    (tmp_path / "fewer.arrows").write_bytes(more + plain)
    assert [row["extra"] for row in read(tmp_path / "fewer.arrows")] == ["e", "e", None, None]
    (tmp_path / "later.arrows").write_bytes(plain + more)
    with pytest.raises(InputError, match="column `extra` first appears after 2 rows"):
        read(tmp_path / "later.arrows")


def test_compressed_files_of_any_kind_are_read(tmp_path):
    content = numbered(50)
    for inner in (".arrows", ".parquet", ".arrow", ".jsonl"):
        data = write(tmp_path / f"plain{inner}", content).read_bytes()
        (tmp_path / "a.gz").write_bytes(gzip.compress(data))
        (tmp_path / "a.zst").write_bytes(zstandard.compress(data))
        assert read(tmp_path / "a.gz") == read(tmp_path / "a.zst") == content, inner


# --- JSON lines ----------------------------------------------------------------------------------


def test_values_that_an_array_would_change_are_refused_with_their_line(tmp_path):
    def lines(*rows):
        (tmp_path / "in.jsonl").write_text(
            "".join(json.dumps({"query": "q", "pos": ["p"], **row}) + "\n" for row in rows)
        )
        return tmp_path / "in.jsonl"

    for first, second in (
        ([["ab"]], ["ab"]),
        ("ab", ["ab"]),
        ("a", 1),
        (True, 1),
    ):
        with pytest.raises(InputError, match="in.jsonl, line (1|2): `extra` is no "):
            rows = [{"extra": first}] * 8192 + [{"extra": second}]
            try:
                read(lines(*rows))
            except InputError as refused:
                refused.what = refused.what.replace("8,193", "2")
                raise InputError(refused.what) from None
    assert [row["extra"] for row in read(lines({"extra": 1}, {"extra": 1.5}))] == [1.0, 1.5]
    assert [row["extra"] for row in read(lines({"extra": {"a": 1}}, {"extra": {"b": 2}}))] == [
        {"a": 1, "b": None},
        {"a": None, "b": 2},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", r"line 1: not UTF-8 \(byte 0xff\)"),
        (b'{"query": "q", "pos": ["p"]}\n{"query": \n', "line 2: no JSON"),
        (b"query,pos\na,b\n", "line 1: no JSON"),
        (b'{"query": "\\ud800", "pos": ["p"]}\n', r"line 1: U\+D800 is half a character"),
        (b'{"query": "q", "pos": ["p"]}\n[1]\n', "line 2: not an object"),
        (b"[" * 100_000, "item 1: nested more than 40 levels deep"),
        (b'{"query": "q", "pos": ["p"], "n": 1' + b"0" * 5000 + b"}\n", "line 1"),
        (b'{"query": "q", "pos": ["p"], "n": 99999999999999999999999}\n', "line 1: `n`"),
    ],
)
def test_bad_lines_are_refused_by_their_number(content, message, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "in.jsonl")


def test_a_table_is_refused_with_the_tool_that_reads_tables(tmp_path):
    (tmp_path / "t.csv").write_text("title,body\na,b\n")
    with pytest.raises(InputError) as refused:
        read(tmp_path / "t.csv")
    assert "csv2pairs" in refused.value.fix


def test_blank_lines_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path):
    line = json.dumps({"id": "1", "query": "q", "pos": "p"}).encode()
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    assert read(tmp_path / "in.jsonl") == [{"id": "1", "query": "q", "pos": ["p"]}] * 2


def test_columns_of_helper_rows_are_the_ones_written(tmp_path):
    content = [{"id": "1", "query": "q", "pos": ["p"], "x": 1.5}]
    assert pq.read_schema(write(tmp_path / "a.parquet", content)).names == columns_of(content).names
