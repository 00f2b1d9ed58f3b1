"""Negatives, ids, scores and several texts a cell that the table itself has."""

from __future__ import annotations

import json

import pytest

from csv2pairs.cli import main

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

ROWS = [
    {"q": "one", "a": "x", "n": "far", "m": "x ", "i": "d1", "s": "0.5", "c": "s1; s2;ONE;S1"},
    {"q": "two", "a": "y", "n": "", "m": "near", "i": "d2", "s": "5", "c": "s3"},
    {"q": "three", "a": "z", "n": "Three", "m": "near", "i": "d3", "s": " 1e0 ", "c": ""},
]
QA = "--query q --pos a"


def test_negatives_of_the_table_are_written_without_query_and_positives(pairs):
    result = pairs(ROWS, QA, "--neg n,m")
    assert [row.get("neg") for row in result.rows] == [["far"], ["near"], ["near"]]
    assert result.summary["measures"]["negatives_of_the_table_left_out"] == 2
    assert "2 texts of --neg are left out" in result.err
    assert [row.get("neg") for row in pairs(ROWS, QA, "--neg n").rows] == [["far"], None, None]


def test_drawn_negatives_follow_those_of_the_table_and_repeat_none(pairs):
    rows = [row | {"n": "z" if row["q"] == "one" else ""} for row in ROWS]
    result = pairs(rows, QA, "--neg n --negatives 5")
    assert result.rows[0]["neg"][0] == "z"
    assert [sorted(row["neg"]) for row in result.rows] == [["y", "z"], ["x", "z"], ["x", "y"]]


def test_scores_and_ids_go_with_the_one_positive(pairs):
    result = pairs(ROWS, QA, "--score s --score-kind judge --pos-id i --neg m --neg-id i")
    assert [(row["pos_scores"], row["pos_score_kind"], row["pos_ids"]) for row in result.rows] == [
        ([0.5], "judge", ["d1"]),
        ([5.0], "judge", ["d2"]),
        ([1.0], "judge", ["d3"]),
    ]
    assert [row.get("neg_ids") for row in result.rows] == [None, ["d2"], ["d3"]]
    assert pairs(ROWS, QA, "--score s").rows[0]["pos_score_kind"] == "label"


@pytest.mark.parametrize("score", ["", "high", "nan", "inf"])
def test_a_score_that_is_no_number_is_refused_with_its_row_or_dropped_by_name(pairs, score):
    rows = [ROWS[0], ROWS[1] | {"s": score}]
    result = pairs(rows, QA, "--score s")
    assert result.rc == 1
    assert "row 2 of the table (query 'two') is one with a score in `s` that is no" in result.err
    result = pairs(rows, QA, "--score s --bad-rows drop")
    assert result.dropped == {"with a score in `s` that is no finite number": 1}


def test_lists_of_scores_and_ids_stay_aligned_with_the_positives_that_are_left(pairs):
    lines = [
        {"q": "one", "a": ["x", "", "One", "y"], "s": [1, 2, 3, 4.5], "i": ["a", "b", "c", "d"]},
        {"q": "two", "a": ["z", "u"], "s": [1], "i": ["e", "f"]},
    ]
    table = "\n".join(map(json.dumps, lines)).encode()
    options = [QA, "--mode list --score s --pos-id i"]
    result = pairs(table, *options, name="t.jsonl")
    assert result.rc == 1
    assert "row 2 of the table" in result.err
    assert "more or fewer items in `s`" in result.err
    (row,) = pairs(table, *options, "--bad-rows drop", name="t.jsonl").rows
    assert (row["pos"], row["pos_scores"], row["pos_ids"]) == (["x", "y"], [1.0, 4.5], ["a", "d"])


def test_a_separator_cuts_a_cell_into_texts(pairs):
    result = pairs(ROWS, "--query q --pos c --mode list --separator c=';'")
    assert [row["pos"] for row in result.rows] == [["s1", "s2"], ["s3"]]
    each = pairs(ROWS, "--query q --pos c", "--separator", "c=;")
    assert [row["pos"] for row in each.rows] == [["s1"], ["s2"], ["s3"]]
    assert each.dropped == {
        "with a positive equal to the query": 1,
        "duplicate": 1,
        "without a positive": 1,
    }
    lines = pairs([{"q": "one", "a": "x\ny"}], QA, "--separator", r"a=\n").rows
    assert [row["pos"] for row in lines] == [["x"], ["y"]]


@pytest.mark.parametrize(
    "options",
    [
        "--pos a,c --score s", "--pos a --mode fused --pos-id i", "--pos a --separator a",
        "--pos a --separator n=;", "--pos a --neg-id i", "--pos a --neg n --neg-id i --negatives 1",
        "--pos a --texts-out {domain}.jsonl", "--pos '{a} {c}' --score s",
    ],
)  # fmt: skip
def test_columns_that_belong_to_nothing_are_usage_errors(pairs, options):
    assert pairs(ROWS, "--query q", options).rc == 2


def test_nested_cells_are_kept_as_json_with_numbers_as_written(pairs):
    line = b'{"q": "one", "a": "x", "k": {"n": 1.10, "t": ["\xc3\xa9", null, true]}, "l": [1, 2]}\n'
    (row,) = pairs(line, QA, "--keep k,l", name="t.jsonl").rows
    assert row["k"] == '{"n": 1.10, "t": ["é", null, true]}'
    assert row["l"] == "[1, 2]"


@pytest.mark.parametrize(
    "options",
    [
        "--pos a --negatives 2", "--category c --mode group", "--pos a --mode list --neg n",
        "--category c --mode group --negatives 2", "--pos a --category c --negatives 3 --shortfall widen",
        "--pos a --score s", "--pos a --negatives 1 --negatives-from query --shortfall drop",
    ],
)  # fmt: skip
def test_a_table_without_rows_is_an_empty_input(pairs, options):
    result = pairs(b"q,a,c,n,s\n", "--query q", options)
    assert result.rc == 0, result.err
    assert result.rows == []


def test_a_table_without_rows_is_split_into_empty_files_and_partitioned_into_none(pairs):
    options = "--query q --pos a --domain c"
    result = pairs(b"q,a,c\n", options, "--split a=0.5,b=0.5", out="{split}.jsonl")
    assert result.files == {"a.jsonl": [], "b.jsonl": []}
    result = pairs(b"q,a,c\n", options, "--partition-by domain", out="{domain}.jsonl")
    assert (result.rc, result.files) == (0, {})
    assert "no rows" in result.err


def test_texts_are_split_and_partitioned_as_pairs_are(pairs):
    rows = [{"a": f"text {n}", "d": "xy"[n % 2], "g": str(n // 4)} for n in range(200)]
    options = ["--mode texts --pos a --domain d"]
    result = pairs(rows, *options, "--partition-by domain", out="{domain}.jsonl")
    assert {name: len(side) for name, side in result.files.items()} == {
        "x.jsonl": 100,
        "y.jsonl": 100,
    }
    assert {row["domain"] for row in result.files["x.jsonl"]} == {"x"}
    split = ["--split one=0.5,two=0.5", "--split-by g", "--keep g"]
    result = pairs(rows, *options, *split, out="{split}.jsonl")
    groups = [{row["g"] for row in side} for side in result.files.values()]
    assert not groups[0] & groups[1]
    assert sum(map(len, result.files.values())) == 200


def test_texts_out_may_have_a_file_for_each_domain(pairs):
    rows = [{"q": f"q{n}", "a": "same", "d": ["x", "y/z", ""][n % 3]} for n in range(9)]
    result = pairs(rows, "--query q --pos a --domain d --texts-out 't.{domain}.jsonl'")
    assert sorted(result.files) == ["out.jsonl", "t._.jsonl", "t.x.jsonl", "t.y%2Fz.jsonl"]
    texts = {row["text"] for row in result.files["t.y%2Fz.jsonl"]}
    assert texts == {"q1", "q4", "q7", "same"}


def test_texts_of_one_column_are_bare(pairs):
    assert pairs(ROWS[:1], "--mode texts --pos a").rows[0]["text"] == "x"
    assert pairs(ROWS[:1], "--mode texts --pos a,q").rows[0]["text"] == "a: x, q: one"


def test_a_file_that_is_too_long_a_name_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(f"q,a,d\n1,x,{'y' * 300}\n")
    options = "--query q --pos a --domain d --texts-out {domain}.jsonl -o out.jsonl --quiet"
    assert main(["t.csv", *options.split()]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
