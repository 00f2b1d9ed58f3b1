"""Rows on a terminal and on a pipe: what is shown, what is cut, and what never reaches the terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import environment
from hypothesis import given
from hypothesis import strategies as st
from suite import ROOT

from arrowcat.printable import JOINERS, lines, one_line

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or waits for a server

SCHEMAS = ROOT / "schemas"


def width_of(line: str) -> int:
    """Columns of a terminal that a line takes; joined emoji take those of one."""
    line = re.sub("👩‍👩‍👧", "👩", line)
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in line)
    return len(line) + wide


def on_terminal(argv: list[str], columns: int, **env: str) -> str:
    """What a command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=environment(COLUMNS=str(columns), TERM="xterm-256color", **env),
        )
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # the terminal's other end was closed
                break
            if not part:
                break
            written += part
        assert process.wait(30) == 0
    finally:
        os.close(ours)
    return written.decode()


def test_a_terminal_gets_colours_and_a_hint(stored: Any, scored: Any) -> None:
    shown = on_terminal(["arrowcat", stored(scored * 3)], 60)
    assert "\x1b[1m" in shown
    assert "\x1b[32m      + " in shown
    assert "more: --head N" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "")
    assert max(map(width_of, plain.splitlines())) <= 60
    assert "\x1b" not in on_terminal(["arrowcat", stored(scored)], 60, NO_COLOR="1")


def test_a_pipe_gets_plain_text_without_a_hint(look: Any, stored: Any, scored: Any) -> None:
    done = look(stored(scored))
    assert done.rc == 0
    assert "\x1b" not in done.text
    assert "more:" not in done.text
    assert done.text.startswith("rows.parquet  examples 1.0, 6 rows, by maker\n")


def test_an_example_is_shown_with_scores_beside_its_texts(look: Any, stored: Any) -> None:
    row = {
        "id": "a",
        "query": "What moves the tide?",
        "pos": ["The moon.", "Gravity."],
        "neg": [f"Negative {number}" for number in range(9)],
        "pos_scores": [0.912345, 0.5],
        "neg_scores": [0.25] * 9,
        "pos_score_kind": "cosine",
        "neg_score_kind": "cosine",
        "prompt": "Query: ",
        "task": "nq",
    }
    shown = look(stored([row])).text.splitlines()
    assert shown[2:] == [
        "   1  What moves the tide?",
        "      id a · task nq",
        "      prompt 'Query: '",
        "      + 0.912  The moon.",
        "      + 0.500  Gravity.",
        "      - 0.250  Negative 0",
        "      - 0.250  Negative 1",
        "      - 0.250  Negative 2",
        "      - … 6 more",
        "",
    ]


def test_the_lines_of_a_text_become_one(look: Any, stored: Any) -> None:
    shown = look(stored([{"id": "1", "query": " a\n\n  b\r\nc\td ", "pos": ["x"]}])).text
    assert "   1  a ⏎ b ⏎ c d\n" in shown


def test_what_is_null_or_empty_is_named(look: Any, write: Any, tmp_path: Path) -> None:
    rows = [
        {"query": "", "pos": ["a"], "neg": []},
        {"query": None, "pos": [None], "neg": None},
    ]
    shown = look(write(tmp_path / "in.parquet", rows)).text
    assert "   1  (empty)\n" in shown
    assert "      - none\n" in shown
    assert "   2  null\n" in shown
    assert "      + null\n" in shown


@pytest.mark.parametrize("columns", [20, 33, 70, 200])
def test_no_line_is_wider_than_the_terminal(columns: int, look: Any, stored: Any) -> None:
    rows = [
        {
            "id": "x" * 300,
            "query": "long " * 5000,
            "pos": ["日本語" * 500],
            "neg": ["👩‍👩‍👧 " * 200],
        },
        {"id": "y", "query": "a\nb\r\nc\td", "pos": ["z" * 1_000_000], "neg": None},
    ]
    done = look(stored(rows), columns=columns)
    assert done.rc == 0, done.err
    assert max(map(width_of, done.text.splitlines())) <= columns
    assert "…" in done.text


def test_control_characters_of_data_never_reach_the_terminal(
    look: Any, write: Any, tmp_path: Path
) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc\x00\x08"
    rows = [{"query": evil, "pos": [evil], "neg": [evil], evil: evil, "id": evil, "task": evil}]
    for name in ("in.parquet", "in.jsonl"):
        path = write(tmp_path / name, rows)
        for view in ([], ["--stats"], ["--check"], ["--where", "task = 'x'"]):
            done = look(path, *view)
            assert not set(done.text) & set("\x1b\x07\x9b\u202e\x00\x08"), view
            assert not set(done.err) & set("\x1b\x07\x9b\u202e\x00\x08"), view
    assert r"\x1b[2J" in look(path).text


@given(st.text())
def test_shown_texts_hold_printable_signs_alone(text: str) -> None:
    shown = one_line(text, 10)
    assert all(sign.isprintable() or sign in JOINERS for sign in shown)
    assert all(sign.isprintable() or sign in JOINERS + "\n\t" for sign in lines(text))


@pytest.mark.parametrize("name", ["examples", "texts", "vectors", "tasks", "measures"])
def test_all_schemas_are_recognised(name: str, look: Any) -> None:
    path = SCHEMAS / name / "v1" / "examples" / "full.jsonl"
    done = look(path)
    assert done.rc == 0, done.err
    assert f"  {name} 1.0" in done.text
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    text = first.get("query") or first.get("text") or first.get("run") or first.get("text_hash")
    assert text[:12] in done.text


def test_a_foreign_table_is_shown_as_it_is(look: Any, tmp_path: Path) -> None:
    flat = pa.table({"name": ["Ann", None], "height": [1.5, 2.25], "n": [1, 2]})
    pq.write_table(flat, tmp_path / "flat.parquet")
    shown = look(tmp_path / "flat.parquet").text.splitlines()
    assert shown[0] == "flat.parquet  table, 2 rows"
    assert shown[2].split() == ["name", "height", "n"]
    assert shown[4].split() == ["1", "Ann", "1.500", "1"]
    assert shown[5].split() == ["2", "null", "2.250", "2"]
    nested = pa.table({"a": [[1.5] * 300], "b": [{"x": 1}], "c": [["p", "q", "r", "s"]]})
    pq.write_table(nested, tmp_path / "nested.parquet")
    shown = look(tmp_path / "nested.parquet").text.splitlines()
    assert shown[2] == "   1  a  [1.500, 1.500, 1.500, 1.500, …] 300 numbers, norm 26.0"
    assert shown[3] == '      b  {"x": 1}'
    assert shown[4] == "      c  [4] p  |  q  |  r  |  … 1 more"


def test_a_table_with_our_names_and_other_types_is_shown_as_it_is(
    look: Any, tmp_path: Path
) -> None:
    table = pa.table({"query": [1, 2], "pos": [{"x": 1}, {"x": 2}]})
    pq.write_table(table, tmp_path / "in.parquet")
    done = look(tmp_path / "in.parquet")
    assert done.rc == 0
    assert "table, 2 rows" in done.text
    assert "`query` is int64, but examples needs string: shown as it is" in done.err


def test_a_row_that_breaks_a_promise_is_shown(look: Any, write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", [{"query": None, "pos": []}])
    assert look(path).rc == 0


def test_only_the_rows_that_are_shown_are_read(look: Any, write: Any, tmp_path: Path) -> None:
    rows = [json.dumps({"query": f"q{i}", "pos": ["a"]}) for i in range(20_000)]
    rows[15_000] = "no json"
    (tmp_path / "in.jsonl").write_text("\n".join(rows))
    done = look(tmp_path / "in.jsonl", "--head", 3)
    assert done.rc == 0
    assert "arrowcat: 3 in, 3 out" in done.err
    assert done.text.count("      + a") == 3
    assert look(tmp_path / "in.jsonl", "--stats").rc == 1


def test_stdin_is_read_and_a_closed_pipe_is_no_error(stored: Any, scored: Any, run: Any) -> None:
    rows = [dict(row, id=f"{row['id']}-{turn}") for turn in range(2000) for row in scored]
    path = stored(rows, "big.arrows")
    done = run(f"cat {path} | arrowcat --head 12000 | head -1; echo ${{PIPESTATUS[*]}}")
    first, codes = done.text.splitlines()
    assert first == "stdin  examples 1.0, by maker"
    assert codes.split()[1] == "0"
    assert "Traceback" not in done.err
    assert "roken" not in done.err


def test_a_terminal_without_unicode_gets_escapes(run: Any, stored: Any) -> None:
    path = stored([{"id": "1", "query": "Über ⏎", "pos": ["日本"]}])
    done = run(["arrowcat", path], env={"PYTHONIOENCODING": "ascii"})
    assert done.rc == 0, done.err
    assert r"\xdcber" in done.text


def test_a_full_disk_is_told_in_two_lines(stored: Any, scored: Any, run: Any) -> None:
    done = run(f"arrowcat {stored(scored)} > /dev/full")
    assert done.rc == 1
    assert "no space left on device" in done.err
    assert "Traceback" not in done.err


def test_a_tool_on_a_terminal_names_arrowcat(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text("q,a\nwhy,because\n")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        ["csv2pairs", str(tmp_path / "faq.csv"), "--query", "q", "--pos", "a"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=environment(),
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2
    assert "csv2pairs … | arrowcat" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stats", "--check"], "--stats and --check are two things to do"),
        (["--tokenizer", "m"], "--tokenizer measures lengths"),
        (["--to", "n-tuple"], "there is no -o"),
        (["--check", "--head", "3"], "--check is about whole inputs"),
        (["--html", "none/page.html"], "does not exist"),
        (["--html", "."], "is a folder"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    words: list[str], told: str, look: Any
) -> None:
    done = look("in.parquet", *words)
    assert done.rc == 2
    assert told in done.err


# --- nothing crashes a look ----------------------------------------------------------------------

VIEWS = ([], ["--stats"], ["--check"], ["--lineage"], ["--sample", "2"], ["--html"])
BROKEN = sorted(SCHEMAS.glob("*/v1/invalid/*.jsonl"))


@pytest.mark.parametrize("words", VIEWS, ids=lambda words: words[0] if words else "rows")
def test_rows_that_break_the_contract_crash_no_view(
    words: list[str], look: Any, tmp_path: Path
) -> None:
    page = [tmp_path / "page.html"] if words == ["--html"] else []
    for case in BROKEN:
        done = look(case, *words, *page)
        assert "unexpected" not in done.err, (case, done.err)


def exotic() -> pa.Table:
    """Columns of the types that nobody expects."""
    return pa.table(
        {
            "": pa.array(["a", None]),
            "nothing": pa.nulls(2),
            "when": pa.array([0, None], pa.timestamp("us", "UTC")),
            "day": pa.array([1, 2], pa.date32()),
            "price": pa.array(["1.50", None]).cast(pa.decimal128(9, 2)),
            "raw": pa.array([b"\x00\xff", b""]),
            "map": pa.array([[("k", [1])], None], pa.map_(pa.string(), pa.list_(pa.int8()))),
            "struct": pa.array([{"a": {"b": [1, None]}}, None]),
            "kinds": pa.array(["x", "x"]).dictionary_encode(),
            "half": pa.array([[0.5, 1.0], None], pa.list_(pa.float16(), 2)),
            "lists": pa.array([[["a"], []], None]),
            "large": pa.array([["a", None], []], pa.large_list(pa.large_string())),
            "yes": pa.array([True, None]),
            "big": pa.array([2**64 - 1, None], pa.uint64()),
            "nan": pa.array([float("nan"), float("inf")]),
        }
    )


@pytest.mark.parametrize("words", VIEWS, ids=lambda words: words[0] if words else "rows")
def test_exotic_types_crash_no_view(words: list[str], look: Any, tmp_path: Path) -> None:
    page = [tmp_path / "page.html"] if words == ["--html"] else []
    pq.write_table(exotic(), tmp_path / "foreign.parquet")
    for own in ({}, {"query": ["a", "b"], "pos": [["a"], ["b"]]}, {"text": ["a", None]}):
        table = exotic()
        for name, values in own.items():
            table = table.append_column(name, pa.array(values))
        for rows in (table, table.slice(0, 0)):
            pq.write_table(rows, tmp_path / "in.parquet")
            done = look(tmp_path / "in.parquet", *words, *page)
            assert "unexpected" not in done.err, done.err
    pq.write_table(pa.table({}), tmp_path / "empty.parquet")
    done = look(tmp_path / "empty.parquet", *words, *page)
    assert "unexpected" not in done.err, done.err


def test_lists_that_are_not_aligned_crash_no_view(look: Any, write: Any, tmp_path: Path) -> None:
    rows = [
        {"query": "a", "pos": ["b", None], "neg": [None, "c"], "pos_scores": [1.0, None, 3.0],
         "neg_scores": [0.5], "pos_score_kind": None, "neg_score_kind": None},
        {"query": None, "pos": [], "neg": [], "pos_scores": [], "neg_scores": None,
         "pos_score_kind": "cosine", "neg_score_kind": "x"},
    ]  # fmt: skip
    path = write(tmp_path / "in.parquet", rows)
    for words in (*VIEWS[:-1], ["--html", tmp_path / "page.html"]):
        done = look(path, *words)
        assert "unexpected" not in done.err, done.err
