"""Tables of any dialect, encoding and format: every cell exactly as written, every lost row by name."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

CELL = st.text(
    st.one_of(
        st.sampled_from("ab\",;\t|\r\n \\'0é漢NA"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufdd0\ufeff"),
    ),
    max_size=8,
)
QA = ["--query", "q", "--pos", "a"]


def cells(result) -> list[tuple[str, str]]:
    return [(row["b"], row["c"]) for row in result.rows]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"]),
)
def test_any_dialect_gives_every_cell_exactly_as_written(
    pairs, rows, delimiter, line_end, quoting, encoding
):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(["n", "a", "b", "c"])
    writer.writerows([[f"k{n}", f"v{n}", b, c] for n, (b, c) in enumerate(rows)])
    result = pairs(
        text.getvalue().encode(encoding), "--query n --pos a --keep b,c --encoding", encoding
    )
    assert cells(result) == rows


@pytest.mark.parametrize("delimiter", ["||", "¦", "<tab>", "\\t;"])
def test_a_delimiter_of_several_bytes_may_stand_inside_quotes(pairs, delimiter):
    between = delimiter.replace("\\t", "\t")
    text = between.join(["q", "a"]) + "\n" + between.join(["one", f'"x{between}y"']) + "\n"
    assert pairs(text.encode(), *QA, "--delimiter", delimiter).rows[0]["pos"] == [f"x{between}y"]


def test_a_long_delimiter_on_the_edge_of_two_chunks_is_found(pairs):
    rows = [f"q{n}||{'x' * (n % 7)}y{n}" for n in range(150_000)]
    result = pairs(("q||a\n" + "\n".join(rows) + "\n").encode(), *QA, "--delimiter '||'")
    assert len(result.rows) == len(rows)
    assert result.rows[-1]["query"] == "q149999"


def test_quotes_are_letters_and_backslashes_escape_where_asked(pairs):
    assert pairs(b'q\ta\nthe 5" disk\t"open\n', *QA, "--quote none").rows[0] | {"id": ""} == {
        "id": "",
        "query": 'the 5" disk',
        "pos": ['"open'],
    }
    assert pairs(b"q,a\n'x, y',z\n", *QA, "--quote ''\"'\"''").rows[0]["query"] == "x, y"
    assert pairs(b"q,a\nx\\, y,z\n", *QA, "--escape '\\'").rows[0]["query"] == "x, y"
    assert pairs(b"q,a\n", *QA, "--quote '||'").rc == 2


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_quote_that_never_closes_is_refused_not_taken_for_one_cell(pairs, end):
    result = pairs(f'q,a\n1,x\n2,"y\n3,z\n4,w{end}'.encode(), *QA)
    assert result.rc == 1
    assert "never closes" in result.err
    result = pairs(f'q,a\n1,x\n"2,y\n3,z\n4,w{end}'.encode(), *QA, "--bad-rows drop")
    assert result.rc == 1
    assert pairs(f'q,a\n1,5" disk\n2,y{end}'.encode(), *QA).rows[0]["pos"] == ['5" disk']


def test_cells_that_look_like_numbers_or_nulls_stay_text(pairs):
    table = [{"q": "007", "a": "1.10"}, {"q": "NA", "a": "null"}, {"q": "1e5", "a": "True"}]
    assert [(row["query"], *row["pos"]) for row in pairs(table, *QA).rows] == [
        ("007", "1.10"),
        ("NA", "null"),
        ("1e5", "True"),
    ]
    result = pairs(table, *QA, "--null NA,null")
    assert result.dropped == {"with an empty query": 1}


KOREAN, JAPANESE, CHINESE, FRENCH = (
    "가격이 얼마인가요",
    "日本語の質問ですか、カナ",
    "请问价格是多少镕囧",
    "Où est l’été à Noël?",
)


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        (KOREAN, "cp949", "cp949"),
        (JAPANESE, "cp932", "shift-jis"),
        (FRENCH, "cp1252", "cp1252"),
        (CHINESE, "gb18030", "gb18030"),
        (KOREAN, "utf-16-le", "utf-16-le"),
        (FRENCH, "utf-16", "utf-16"),
    ],
)
def test_an_encoding_that_is_named_is_used(pairs, text, codec, name):
    assert (
        pairs(f"q,a\n{text},{text}!\n".encode(codec), *QA, "--encoding", name).rows[0]["query"]
        == text
    )


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Ça été décidé, “à bientôt”; naïve – où?", "cp1252"),
        (FRENCH, "utf-16"),
        (KOREAN, "utf-16-le"),
        (FRENCH, "utf-16-be"),
        (JAPANESE, "utf-8"),
        ("日本語ﾎｯｶｲﾄﾞｳ、ｻｯﾎﾟﾛ", "cp932"),
    ],
)
def test_an_encoding_that_alone_fits_is_used_and_told(pairs, text, codec):
    result = pairs(f'q,a\n"{text}",b\n'.encode(codec), *QA)
    assert result.rows[0]["query"] == text
    assert codec == "utf-8" or f"read as {codec}" in result.err


def test_an_encoding_in_doubt_is_refused_and_the_candidates_are_named(pairs):
    result = pairs(f"q,a\n{KOREAN},b\n".encode("cp949"), *QA)
    assert result.rc == 1
    assert "could be" in result.err
    assert "cp949" in result.err
    assert "gb18030" in result.err
    assert pairs(b"q,a\n\x81 x,b\n", *QA).rc == 1
    assert pairs(b"q,a\n", *QA, "--encoding rot13").rc == 2


def test_a_line_that_does_not_decode_is_refused_with_its_number_or_dropped_by_name(pairs):
    table = b'q,a\ngood,1\nb\xffd,2\n"two\nlines \xfe",3\nfine,4\n'
    result = pairs(table, *QA, "--encoding utf-8")
    assert result.rc == 1
    assert "line 3: not utf-8 (bytes ff 64" in result.err
    result = pairs(table, *QA, "--encoding utf-8 --bad-rows drop")
    assert [row["query"] for row in result.rows] == ["good", "fine"]
    assert result.dropped == {"undecodable": 2}
    assert result.summary["measures"]["undecodable_lines"] == {"table.csv": [3, 5]}


def test_rows_with_the_wrong_number_of_cells_are_refused_or_dropped_by_name(pairs):
    table = b"q,a\n1,x\n2\n3,y,z\n4,w\n"
    assert "row 2: 1 cells instead of 2: 2" in pairs(table, *QA).err
    result = pairs(table, *QA, "--bad-rows drop")
    assert [row["query"] for row in result.rows] == ["1", "4"]
    assert result.dropped == {"with the wrong number of cells": 2}


def test_json_lines_keep_numbers_as_written_and_join_lists(pairs):
    lines = b'{"q": ["a", "b"], "a": 1.10, "n": 12345678901234567890123}\n\n{"a": "x", "q": "y", "new": 1}\n'
    result = pairs(lines, *QA, "--keep n", name="t.jsonl")
    assert [(row["query"], row["pos"], row.get("n")) for row in result.rows] == [
        ("a b", ["1.10"], "12345678901234567890123"),
        ("y", ["x"], None),
    ]


def test_json_arrays_are_read_item_by_item_and_a_cut_one_is_refused(pairs):
    items = [{"q": f"q{n}", "a": "x" * 500 + str(n)} for n in range(5000)]  # more than one chunk
    result = pairs(json.dumps(items, indent=1).encode(), *QA, name="t.json")
    assert [row["query"] for row in result.rows] == [item["q"] for item in items]
    assert pairs(json.dumps(items).encode()[:-20], *QA, name="t.json").rc == 1


def test_lines_that_are_no_json_objects_are_refused_with_their_number_or_dropped(pairs):
    lines = b'{"q": "1", "a": "x"}\n{"q": "2"\n[1]\n{"q": {"no": 1}, "a": "z"}\n{"q": "\\ud800", "a": "z"}\n{"q": "b\xff", "a": "z"}\n{"q": "3", "a": "y"}\n'
    assert "t.jsonl, line 2: no JSON" in pairs(lines.replace(b"\xff", b""), *QA, name="t.jsonl").err
    result = pairs(lines, *QA, "--encoding utf-8 --bad-rows drop", name="t.jsonl")
    assert [row["query"] for row in result.rows] == ["1", "3"]
    assert result.dropped == {"that are no JSON object": 4, "undecodable": 1}


def test_a_folder_of_tables_is_read_by_name_each_with_its_own_columns(pairs, tmp_path):
    files = {
        "b.jsonl": b'{"q": "2", "a": "y", "other": 1}\n',
        "a.csv": b"x,a,q,k\n0,x,1,kept\n",
        "c.tsv": b"q\ta\n3\tz\n",
        ".hidden.csv": b"no",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    result = pairs({}, tmp_path, *QA, "--keep k")
    assert [(row["query"], row.get("k")) for row in result.rows] == [
        ("1", "kept"),
        ("2", None),
        ("3", None),
    ]


def test_a_missing_column_is_a_usage_error_that_lists_the_others(pairs):
    for table, name in [(b"x,a\n1,2\n", "t.csv"), (b'{"x": 1, "a": 2}\n', "t.jsonl")]:
        result = pairs(table, *QA, name=name)
        assert result.rc == 2
        assert "has no column `q`; it has `x`, `a`" in result.err
    assert pairs(b"q,a\n1,2\n", *QA, "--keep nowhere").rc == 2


def test_parquet_numbers_lists_and_dictionaries_become_text(pairs):
    table = pa.table(
        {
            "q": pa.array([[1, 2], [3]]),
            "a": pa.array(["x", "y"]).dictionary_encode(),
            "n": [1.5, None],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    result = pairs(sink.getvalue(), *QA, "--keep n", name="t.parquet")
    assert [(row["query"], row["pos"], row.get("n")) for row in result.rows] == [
        ("1 2", ["x"], "1.5"),
        ("3", ["y"], None),
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_stay_lists_as_positives_and_become_one_text_that_is_told_elsewhere(pairs, kind):
    rows = [
        {"query": "q", "pos": ["a", "b"]},
        {"query": "r", "pos": ["c"]},
        {"query": "s", "pos": ["d", "e"]},
    ]
    sink = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), sink)
    table, name = sink.getvalue(), f"t.{kind}"
    result = pairs(table, "--query query --pos pos --mode list", name=name)
    assert [row["pos"] for row in result.rows] == [["a", "b"], ["c"], ["d", "e"]]
    assert not result.summary["notes"]
    result = pairs(table, "--query query --pos pos", name=name)
    assert [row["pos"] for row in result.rows] == [["a"], ["b"], ["c"], ["d"], ["e"]]
    result = pairs(table, "--query query --pos pos --mode fused", name=name)
    assert result.rows[0]["pos"] == ["pos: a b"]
    (note,) = result.summary["notes"]
    assert note.startswith(
        "column `pos` holds lists in 2 rows; each became one text; rows of `query` and `pos` are examples already"
    )
    (note,) = pairs(table, "--query pos --pos query --limit 1", name=name).summary["notes"]
    assert note.startswith("column `pos` holds lists in")
    assert not pairs(b'{"q": ["a"], "a": "b"}\n', *QA, name="t.jsonl").summary["notes"]


def test_tables_are_read_from_pipes_and_compressed_files_in_any_encoding(run, tmp_path):
    table = f"q,a\n{FRENCH},b\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(table.encode("cp1252")))
    for command in (
        "csv2pairs t.csv.gz",
        "gunzip -c t.csv.gz | csv2pairs",
        "gunzip -c t.csv.gz | csv2pairs - --encoding cp1252",
    ):
        done = run(f"{command} --query q --pos a -o out.jsonl", cwd=tmp_path)
        assert done.rc == 0, done.err
        assert json.loads((tmp_path / "out.jsonl").read_text())["query"] == FRENCH


def test_a_table_without_a_header_takes_its_names_from_columns(pairs):
    result = pairs(b"007,x\n008,y\n", *QA, "--columns q,a")
    assert [row["query"] for row in result.rows] == ["007", "008"]


def test_the_first_rows_alone_are_read_on_request_also_with_splits(pairs):
    table = [{"q": f"q{n}", "a": f"a{n}"} for n in range(50)]
    assert [row["query"] for row in pairs(table, *QA, "--limit 3").rows] == ["q0", "q1", "q2"]
    result = pairs(table, *QA, "--limit 20 --split train=0.5,test=0.5", out="{split}.jsonl")
    assert sorted(row["query"] for rows in result.files.values() for row in rows) == sorted(
        f"q{n}" for n in range(20)
    )
