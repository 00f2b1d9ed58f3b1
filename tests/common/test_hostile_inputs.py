"""Hostile rows, configs and arguments: refused by name with a fix, in bounded time and memory, never a crash."""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import arrowcat.cli
import csv2pairs.cli
from fletching.column_names import DEEPEST
from fletching.errors import InputError, UsageError
from fletching.io.json_text import LONGEST
from fletching.io.tables import encoding
from fletching.yaml_text import MOST_VALUES
from fletching.yaml_text import parse as parse_yaml

sys.path.insert(0, os.path.dirname(__file__))
from streams import numbered, read, write

pytestmark = pytest.mark.slow  # as a whole: it starts commands and damages files byte by byte

ROW = b'{"query": "a", "pos": ["b"]}\n'
Refuse = Callable[..., str]


@pytest.fixture
def refused(invoke: Any, tmp_path: Path) -> Refuse:
    """refused("in.jsonl", content, "--check", rc=1): what stands on stderr, without the name of the tool."""

    def refused(
        name: str, content: bytes, *argv: Any, main: Any = arrowcat.cli.main, rc: int = 1
    ) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        done = invoke(main, path, *(argv or ("-o", tmp_path / "out.parquet")))
        assert done.rc == rc and "fix: " in done.err, done.err
        assert "unexpected failure" not in done.err
        assert not (tmp_path / "out.parquet").exists()
        return str(done.err).replace(str(path), name).partition(": ")[2]

    return refused


def as_pairs(folder: Path) -> tuple[Any, ...]:
    return "--query", "query", "--pos", "pos", "-o", folder / "out.parquet"


# --- JSON ----------------------------------------------------------------------------------------


def nested(opening: bytes, depth: int, key: bytes = b"x") -> bytes:
    inner = opening * depth + b"1" + (b"]" if opening == b"[" else b"}") * depth
    return ROW + b'{"query": "a", "pos": ["b"], "' + key + b'": ' + inner + b"}\n"


@pytest.mark.parametrize("depth", [DEEPEST + 1, 400, 100_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_at_its_line(
    opening: bytes, depth: int, refused: Refuse, tmp_path: Path
) -> None:
    content = nested(opening, depth)
    what = f"in.jsonl, line 2: nested more than {DEEPEST} levels deep"
    assert what in refused("in.jsonl", content)
    assert what in refused("in.jsonl", content, *as_pairs(tmp_path), main=csv2pairs.cli.main)
    array = b"[" + content.replace(b"}\n{", b"},\n{") + b"]"
    assert "in.json, item 2: nested more than" in refused("in.json", array)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_the_deepest_nesting_that_is_read_passes_through_every_format(
    opening: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(nested(opening, DEEPEST))
    rows = read(tmp_path / "a.jsonl")
    columns = pa.Table.from_pylist(rows).schema
    for name in ("b.parquet", "b.arrows", "b.arrow", "b.jsonl"):
        assert read(write(tmp_path / name, rows, columns=columns)) == rows, name


def test_deep_nesting_in_a_parquet_file_is_refused(tmp_path: Path) -> None:
    kind: pa.DataType = pa.int8()
    for _ in range(DEEPEST + 1):
        kind = pa.struct([("a", kind)])
    pq.write_table(pa.table({"query": ["a"], "x": pa.nulls(1, kind)}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column `x` is nested more than"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "fields",
    [b'"\\ud800k": 1', b'"k": {"\\uD800": 1}', b'"k": "\\udfff"', b'"query": "a\\udfff"', b'"pos": ["\\udfff"]'],
)  # fmt: skip
def test_half_a_character_is_refused_in_keys_and_values(
    fields: bytes, refused: Refuse, tmp_path: Path
) -> None:
    others = [b'"query": "a"', b'"pos": ["b"]']
    others = [other for other in others if other.partition(b":")[0] not in fields]
    content = ROW + b"{" + b", ".join([*others, fields]) + b"}\n"
    assert "in.jsonl, line 2: U+D" in refused("in.jsonl", content)
    told = refused("in.jsonl", content, *as_pairs(tmp_path), main=csv2pairs.cli.main)
    assert "is half a character" in told and "--bad-rows drop" in told


@pytest.mark.parametrize(
    ("fields", "key"),
    [(b'"query": "c"', "query"), (b'"n": {"k": 1, "m": [{"x": 0, "x": 0}]}', "x")],
    ids=["of the row", "inside of a value"],
)
def test_a_key_twice_is_refused_at_its_line(
    fields: bytes, key: str, refused: Refuse, tmp_path: Path
) -> None:
    content = ROW + b'{"query": "a", "pos": ["b"], ' + fields + b"}\n"
    what = f"2: the key `{key}` appears twice"
    array = b"[" + content.replace(b"}\n{", b"},\n{") + b"]"
    for name, rows in (("in.jsonl", content), ("in.json", array)):
        assert what in refused(name, rows)
        assert what in refused(name, rows, *as_pairs(tmp_path), main=csv2pairs.cli.main)


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"query": "\\ud83e\\udd89", "pos": ["b"]}\n')
    assert read(tmp_path / "a.jsonl")[0]["query"] == "\N{OWL}"


@pytest.mark.parametrize("name", ["in.jsonl.zst", "in.json.zst"])
def test_an_endless_line_in_a_small_file_is_refused_at_a_limit(
    name: str, refused: Refuse, tmp_path: Path
) -> None:
    long = b'{"query": "' + b"a" * LONGEST + b'", "pos": ["b"]}'
    is_array = ".json." in name
    content = zstandard.compress(b"[" + ROW + b"," + long + b"]" if is_array else ROW + long)
    assert len(content) < 20_000
    what = f"{name}, {'item' if is_array else 'line'} 2: longer than 64 MB"
    assert what in refused(name, content)
    assert what in refused(name, content, *as_pairs(tmp_path), main=csv2pairs.cli.main)


def test_rows_of_a_megabyte_are_read_in_blocks_by_their_size(tmp_path: Path) -> None:
    row = b'{"query": "a", "pos": ["' + b"b" * (1 << 20) + b'"]}\n'
    (tmp_path / "a.jsonl").write_bytes(row * 70 + b'{"query": "a", "pos": ["b"], "n": 1}\n')
    rows = read(tmp_path / "a.jsonl")  # the column of the last one is known all the same
    assert len(rows) == 71 and rows[-1]["n"] == 1 and rows[0]["n"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[%s %s]", "neither a comma"), (b"[%s]\n[%s]", "text behind the end"), (b"[%s,%s,]", "Expecting value"),
        (b"[%s,%s", "neither a comma"), (b"[%s,,%s]", "Expecting value"),
    ],
)  # fmt: skip
def test_a_damaged_array_is_refused_at_its_item(text: bytes, reason: str, refused: Refuse) -> None:
    content = text % (ROW.strip(), ROW.strip())
    assert f"no JSON ({reason}" in refused("in.json", content)


def test_a_column_that_changes_its_type_is_refused_at_the_true_row(tmp_path: Path) -> None:
    def lines(*values: Any) -> str:
        rows = [{"query": "q", "pos": ["p"], "n": value} for value in values]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(InputError) as error:
            read(tmp_path / "a.jsonl")
        return error.value.what.partition(", ")[2]

    assert lines(1, 2, 3, "x") == 'line 4: `n` is no int64, unlike other rows ("x")'
    assert lines("x", "y", 1) == "line 3: `n` is no string, unlike other rows (1)"
    assert lines(None, 1, 2.5, True) == "line 4: `n` is no double, unlike other rows (true)"
    assert lines({"a": 1}, {"a": "x"}).startswith("line 2: `n` is no struct<a: int64>")
    assert lines(*[1] * 8200, "x").startswith("line 8,201: `n` is no int64")


def test_tens_of_thousands_of_columns_take_seconds(run: Any, tmp_path: Path) -> None:
    row = {"query": "a", "pos": ["b"]} | {f"k{i}": i for i in range(20_000)}
    (tmp_path / "wide.jsonl").write_text(json.dumps(row) + "\n")
    done = run(["arrowcat", tmp_path / "wide.jsonl", "--check"], timeout=60)  # was: minutes
    assert done.rc == 0, done.err
    assert "1 row" in done.text


# --- compressed files ----------------------------------------------------------------------------


def test_no_changed_byte_of_our_jsonl_zst_changes_rows(tmp_path: Path) -> None:
    rows = numbered(40)
    path = write(tmp_path / "a.jsonl.zst", rows)
    content = path.read_bytes()
    parameters = zstandard.get_frame_parameters(content)
    assert parameters.has_checksum
    draw = random.Random(0)
    refusals = 0
    for position in range(len(content)):
        for flipped in (1 << draw.randrange(8), 0xFF):
            changed = bytes([content[position] ^ flipped])
            path.write_bytes(content[:position] + changed + content[position + 1 :])
            try:
                assert read(path) == rows, position
            except InputError:
                refusals += 1
    assert refusals > 1.9 * len(content)  # the size of the window may change, and rows do not


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_compressed_file_of_no_bytes_is_no_file_of_no_rows(name: str, tmp_path: Path) -> None:
    whole = write(tmp_path / name, [])
    assert read(whole) == [] and whole.stat().st_size > 0
    whole.write_bytes(b"")
    with pytest.raises(InputError, match=r"is empty \(0 bytes\)"):
        read(whole)


def test_thousands_of_layers_of_gzip_are_refused(refused: Refuse, tmp_path: Path) -> None:
    content = ROW
    for _ in range(4):
        content = gzip.compress(content)
    (tmp_path / "four.gz").write_bytes(content)
    assert len(read(tmp_path / "four.gz")) == 1
    for _ in range(1996):
        content = gzip.compress(content, 1)
    assert "compressed more than 4 times over" in refused("in.gz", content)
    told = refused("in.gz", content, *as_pairs(tmp_path), main=csv2pairs.cli.main)
    assert "compressed more than 4 times over" in told


# --- Arrow and Parquet ---------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".arrow", ".arrows", ".parquet"])
@pytest.mark.parametrize(
    ("part", "message"),
    [("name", r"the column name `zz\xffzz` is not UTF-8"), ("inner", r"`zz\xffzz` is not UTF-8"), ("cell", "Invalid UTF8")],
)  # fmt: skip
def test_bytes_that_are_no_text_are_refused_in_names_and_cells(
    part: str, message: str, ending: str, refused: Refuse, tmp_path: Path
) -> None:
    table = {
        "name": {"query": ["a"], "pos": ["b"], "zzzzz": ["c"]},
        "inner": {"query": ["a"], "pos": ["b"], "x": [{"zzzzz": "c"}]},
        "cell": {"query": ["zzzzz"], "pos": ["b"]},
    }[part]
    path = tmp_path / f"good{ending}"
    columns = pa.table(table)
    if ending == ".parquet":
        pq.write_table(columns, path, compression="none", use_dictionary=False, write_statistics=False, store_schema=False)  # fmt: skip
    else:
        new = pa.ipc.new_file if ending == ".arrow" else pa.ipc.new_stream
        with new(str(path), columns.schema) as out:
            out.write_table(columns)
    content = path.read_bytes().replace(b"zzzzz", b"zz\xffzz")
    assert message in refused(f"in{ending}", content)
    told = refused(f"in{ending}", content, *as_pairs(tmp_path), main=csv2pairs.cli.main)
    assert message in told


def test_a_column_without_a_name_stays_when_ids_are_filled(invoke: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"query": "a", "pos": ["b"], "": "kept"}\n')
    for source, out in (("a.jsonl", "b.parquet"), ("b.parquet", "c.arrow"), ("c.arrow", "d.jsonl")):
        done = invoke(arrowcat.cli.main, tmp_path / source, "-o", tmp_path / out)
        assert done.rc == 0, done.err
        (row,) = read(tmp_path / out)
        assert row[""] == "kept" and row["id"]


def test_our_jsonl_is_read_back_where_a_column_comes_late(tmp_path: Path) -> None:
    rows = [{**row, "neg": None, "note": None} for row in numbered(8300)]
    rows[-1] |= {"neg": ["n"], "note": "late"}
    columns = pa.Table.from_pylist([rows[-1]]).schema
    assert read(write(tmp_path / "a.jsonl", rows, columns=columns)) == rows


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["undefined", "idna", "punycode", "unicode_escape", "raw-unicode-escape", "rot13", "zlib", "hex", "bz2", "mbcs"]
)  # fmt: skip
def test_codecs_that_no_file_has_are_refused(name: str, refused: Refuse, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--encoding {name} is not known"):
        encoding.codec_named(name)
    if name == "undefined":
        argv = (*as_pairs(tmp_path), "--encoding", name)
        told = refused("in.csv", b"query,pos\na,b\n", *argv, main=csv2pairs.cli.main, rc=2)
        assert told.startswith("--encoding undefined is not known")


def test_a_nul_in_utf8_is_told_as_what_it_is(refused: Refuse, tmp_path: Path) -> None:
    content = "query,pos\na,é\nc\0,d\n".encode()
    told = refused("in.csv", content, *as_pairs(tmp_path), main=csv2pairs.cli.main)
    assert told.startswith("in.csv, line 3: a NUL character") and "latin" not in told


def test_a_rating_that_is_no_number_is_refused_at_its_row(refused: Refuse) -> None:
    told = refused("in.csv", b"query,pos,score\n" + b"a,b,1\n" * 5 + b"a,b,x\n")
    assert "in.csv, row 6: `score` is no number ('x')" in told


# --- options and configs -------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--limit", "--seed"])
def test_numbers_beyond_64_bits_are_refused(option: str, refused: Refuse, tmp_path: Path) -> None:
    argv = (*as_pairs(tmp_path), option)
    main = csv2pairs.cli.main
    for text in (str(2**63), "9" * 5000):
        told = refused("in.jsonl", ROW, *argv, text, main=main, rc=2)
        assert told.startswith(f"{option} ") and len(told) < 300


@pytest.mark.parametrize("option", ["--limit", "--seed"])
def test_the_largest_number_is_taken(option: str, invoke: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(ROW)
    argv = (*as_pairs(tmp_path), "--negatives", 1, option, 2**63 - 1)
    done = invoke(csv2pairs.cli.main, tmp_path / "in.jsonl", *argv)
    assert done.rc == 0, done.err


def test_an_argument_that_is_no_text_is_refused_and_a_file_name_is_not(run: Any, tmp_path: Path) -> None:  # fmt: skip
    name = os.fsdecode(b"n\xff.jsonl")
    (tmp_path / name).write_bytes(b'{"anchor": "a", "positive": "b"}\n')
    done = run(["arrowcat", name, "--where", os.fsdecode(b"query = '\xff'")], cwd=tmp_path)
    assert (done.rc, done.out) == (2, b"")
    assert done.err.startswith(r"arrowcat: --where") and r"is not UTF-8" in done.err
    out, summary = os.fsdecode(b"o\xff.parquet"), os.fsdecode(b"s\xff.json")
    done = run(["arrowcat", name, "-o", out, "--json-summary", summary], cwd=tmp_path)
    assert done.rc == 0, done.err
    assert len(read(tmp_path / out)) == 1
    assert json.loads((tmp_path / summary).read_text())["rows_out"] == 1


def bomb(last: str) -> bytes:
    """Nine levels of nine aliases each."""
    levels = ["&a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return f"{last}: [{', '.join(levels)}]\n".encode()


MERGES = "a: &m0 {seed: 1}\n" + "".join(
    f"b{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bomb("limit"), f"its aliases stand for more than {MOST_VALUES:,} values"),
        (MERGES.encode(), f"its aliases stand for more than {MOST_VALUES:,} values"),
        (b"limit: &a [*a]\n", "an alias lies inside of what it stands for"),
        (b"limit: " + b"[" * 20_000, "it is nested too deep"),
    ],
    ids=["lists", "merges", "circle", "deep"],
)
def test_a_yaml_bomb_is_refused_at_once(
    content: bytes, reason: str, refused: Refuse, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    told = refused("in.jsonl", ROW, "--config", tmp_path / "c.yaml", rc=2)
    assert "cannot be parsed: " in told and reason in told


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("c.json", b'{"limit": 1, "limit": 2}', "the key `limit` appears twice"),
        ("c.yaml", b"limit: 1\nhead: 1\nlimit: 2\n", "`limit` appears twice (again in line 3)"),
        ("c.toml", b"limit = 1\nlimit = 2\n", "Cannot overwrite a value"),
        ("c.json", b'{"output": "a.jsonl", "limit": [[{"a": 1, "a": 2}]]}', "`a` appears twice"),
        ("c.json", b'{"json-summary": "a", "json_summary": "b"}', "`json_summary` sets an option"),
        ("c.json", b'{"limit": ' + b"[" * 200_000, "it is nested too deep"),
    ],
)
def test_a_config_that_says_one_thing_twice_is_refused(
    name: str, content: bytes, what: str, refused: Refuse, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    told = refused("in.jsonl", ROW, "--config", tmp_path / name, rc=2)
    assert name in told and what in told


def test_aliases_and_merges_of_a_usual_config_work() -> None:
    content = b"base: &b {lr: 1}\nrun: {<<: *b, steps: 2}\nlist: &l [1, 2]\nagain: *l\n"
    expected = {"base": {"lr": 1}, "run": {"lr": 1, "steps": 2}, "list": [1, 2], "again": [1, 2]}
    assert parse_yaml(content) == expected
    assert parse_yaml(b"") is None


def test_a_summary_that_cannot_be_written_is_told_with_what_is_complete(
    invoke: Any, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(ROW)
    argv = ("-o", tmp_path / "out.parquet", "--json-summary", "/dev/full")
    done = invoke(arrowcat.cli.main, tmp_path / "in.jsonl", *argv)
    assert done.rc == 1 and (tmp_path / "out.parquet").exists()
    assert "--json-summary /dev/full cannot be written: no space left on device" in done.err
    assert "the output is complete" in done.err


# --- the terminal --------------------------------------------------------------------------------


EVIL = "\x1b[31mred\x1b]0;t\x07\x9b2J\u202e\x08"


@pytest.mark.parametrize(
    "view", [(), ("--stats",), ("--check",), ("--lineage",), ("--where", f"{EVIL} = 1")]
)
def test_control_characters_of_data_never_reach_the_terminal(
    view: Any, invoke: Any, tmp_path: Path
) -> None:
    row = {"id": EVIL, "query": EVIL, "pos": [EVIL], "neg": [EVIL], "task": EVIL, EVIL: EVIL}
    name = tmp_path / f"f{EVIL[:4]}.jsonl"
    name.write_text(json.dumps(row | {"part": {EVIL: EVIL}}) + "\n")
    done = invoke(arrowcat.cli.main, name, *view)
    shown = done.text + done.err
    assert not any(sign in shown for sign in "\x1b\x07\x9b\u202e\x08"), shown


def test_the_account_of_no_rows_balances_in_every_mode_of_csv2pairs(
    invoke: Any, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("query,pos,kind\n")
    for argv in (("--negatives", 2), ("--mode", "group", "--category", "kind"), ("--category", "kind", "--negatives", 1)):  # fmt: skip
        done = invoke(csv2pairs.cli.main, tmp_path / "in.csv", *as_pairs(tmp_path), *argv)
        assert done.rc == 0 and "0 in, 0 out" in done.err, done.err
