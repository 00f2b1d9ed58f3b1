"""Hard negatives: exactly the texts that the rule allows, uniformly drawn, whatever the order of the file."""

from __future__ import annotations

import collections
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csv2pairs import links, stored_pairs
from fletching.text import normalise

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

Row = dict[str, str]


def eligible(
    rows: list[Row], columns: list[str], *, wide: bool = False, by_query: bool = False
) -> list[set[str]]:
    """The rule in plain words, for --mode list: the texts, normalised, that may become negatives of each row.

    A text of another row of the same category and domain; not the query, not a positive; and no row that
    holds it, wherever it stands, has the row's query, one of its positives or its id.
    """
    tables = []
    for row in rows:
        query = normalise(row["q"])
        positives = {normalise(row[column]) for column in columns} - {"", query}
        tables.append(
            (query, positives, {query if by_query else ""} - {""} or positives, {query, *positives})
        )
    allowed = []
    for row, (query, positives, _, ties) in zip(rows, tables):
        pool: set[str] = set()
        for other, (_, _, texts, _) in zip(rows, tables):
            same = normalise(other["d"]) == normalise(row["d"]) and (
                wide or normalise(other["c"]) == normalise(row["c"])
            )
            pool |= texts if same else set()
        tied = {text for _, _, texts, theirs in tables if theirs & ties for text in texts}
        allowed.append(pool - tied - positives - {query})
    return allowed


WORD = st.sampled_from(["a", "b", "c", "d", "e", "f", "A", " b", "ｃ", "g h", "g  h", ""])
TABLE = st.lists(
    st.fixed_dictionaries(
        {
            "q": st.sampled_from(["q1", "q2", "q3", "q4", "a", "b"]),
            "p": WORD,
            "r": WORD,
            "c": st.sampled_from(["x", "y", "X "]),
            "d": st.sampled_from(["1", "2"]),
        }
    ),
    min_size=1,
    max_size=14,
)
LIST = "--query q --pos p,r --mode list --category c --domain d --keep c,n".split()


def distinct(rows: list[Row], result: Any) -> list[Row]:
    """The rows that became examples, in the order of the output."""
    return [rows[int(row["n"])] for row in result.rows]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(TABLE, st.booleans())
def test_more_negatives_than_the_pool_has_are_exactly_the_eligible_texts(pairs, rows, by_query):
    rows = [row | {"n": str(n)} for n, row in enumerate(rows)]
    result = pairs(rows, *LIST, "--negatives 40 --negatives-from", "query" if by_query else "pos")
    used = distinct(rows, result)
    for row, allowed in zip(result.rows, eligible(used, ["p", "r"], by_query=by_query)):
        negatives = [normalise(text) for text in row["neg"]]
        assert len(negatives) == len(set(negatives))
        assert set(negatives) == allowed


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(TABLE, st.integers(1, 3), st.sampled_from(["keep", "drop", "widen"]), st.integers(0, 3))
def test_negatives_are_eligible_distinct_and_short_only_as_the_policy_says(
    pairs, rows, k, policy, seed
):
    rows = [row | {"n": str(n)} for n, row in enumerate(rows)]
    everything = distinct(rows, pairs(rows, *LIST))
    near, far = (
        dict(zip((row["n"] for row in everything), eligible(everything, ["p", "r"], wide=wide)))
        for wide in (False, True)
    )
    result = pairs(rows, *LIST, "--negatives", k, "--shortfall", policy, "--seed", seed)
    for row in result.rows:
        negatives = [normalise(text) for text in row["neg"]]
        assert len(set(negatives)) == len(negatives)
        assert set(negatives) <= (far if policy == "widen" else near)[row["n"]]
        hard = near[row["n"]]
        assert len(set(negatives) & hard) == min(k, len(hard))  # hard ones first
        assert len(negatives) == min(k, len((far if policy == "widen" else near)[row["n"]]))
    short = sum(len(allowed) < k for allowed in near.values())
    if policy == "drop":
        assert (
            result.dropped.get(f"with fewer than {k} negatives", 0)
            == short
            == len(everything) - len(result.rows)
        )
    else:
        assert len(result.rows) == len(everything)
    if policy == "keep":
        assert result.summary["measures"].get("rows_short_of_negatives", 0) == short
    if policy == "widen":
        assert result.summary["measures"].get("rows_widened_to_the_domain", 0) == sum(
            len(near[n]) < k and far[n] - near[n] != set() for n in near
        )


def shop(count: int, categories: int, shared: int = 0) -> list[Row]:
    draw = random.Random(1)
    return [
        {
            "i": f"i{n}",
            "q": f"query {n}",
            "p": f"answer {n % (count - shared)}",
            "c": f"c{draw.randrange(categories)}",
            "d": "d",
        }
        for n in range(count)
    ]


PLAIN = ["--query", "q", "--pos", "p", "--category", "c", "--id", "i"]


@pytest.mark.parametrize("categories", [1, 30])
def test_the_order_of_the_file_does_not_change_a_rows_negatives(pairs, categories):
    rows = shop(600, categories, shared=100)  # pools larger and smaller than what is permuted whole
    result = pairs(rows, *PLAIN, "--negatives 4")
    expected = {row["id"]: row["neg"] for row in result.rows}
    for seed in range(2):
        random.Random(seed).shuffle(rows)
        assert {
            row["id"]: row["neg"] for row in pairs(rows, *PLAIN, "--negatives 4").rows
        } == expected


def test_equal_texts_of_other_spelling_give_the_same_negative_in_any_order(pairs):
    rows = [
        {
            "i": f"i{n}",
            "q": f"q{n}",
            "p": ["Paris", "paris ", "ＰＡＲＩＳ"][n % 3] if n < 9 else f"p{n}",
            "c": "c",
        }
        for n in range(12)
    ]
    expected = {row["id"]: row["neg"] for row in pairs(rows, *PLAIN, "--negatives 9").rows}
    assert {
        row["id"]: row["neg"] for row in pairs(rows[::-1], *PLAIN, "--negatives 9").rows
    } == expected


def test_the_seed_decides_and_the_same_seed_gives_the_same_bytes(run, tmp_path):
    (tmp_path / "t.csv").write_text(
        "i,q,p,c,d\n" + "\n".join(",".join(row.values()) for row in shop(300, 2))
    )
    command = "csv2pairs t.csv --query q --pos p --category c --negatives 3 --mode each"
    for name, more, hashing in (("a", "", "0"), ("b", "", "1"), ("c", "--seed 7", "0")):
        assert (
            run(
                f"{command} {more} -o {name}.parquet", cwd=tmp_path, env={"PYTHONHASHSEED": hashing}
            ).rc
            == 0
        )
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(("size", "k"), [(12, 2), (90, 3)])
def test_every_eligible_text_is_drawn_equally_often(pairs, size, k):
    """Chi-square over rows and seeds, 5 sigma: a pool that is permuted whole, one that is sampled."""
    pools = 240 // size  # of equal size in one table: their rows draw independently
    rows = [
        {"i": f"{pool}-{n}", "q": f"q{pool}-{n}", "p": f"p{pool}-{n}", "c": f"c{pool}"}
        for pool in range(pools)
        for n in range(size)
    ]
    runs = 10
    counts: collections.Counter[int] = collections.Counter()
    for seed in range(runs):
        for row in pairs(rows, *PLAIN, "--negatives", k, "--seed", seed).rows:
            number = int(row["id"].split("-")[1])
            for text in row["neg"]:
                distance = (int(text.split("-")[1]) - number) % size
                counts[distance] += 1
    drawn = counts.total()
    expected = drawn / (size - 1)
    chi = sum((counts[distance] - expected) ** 2 / expected for distance in range(1, size))
    assert drawn == runs * len(rows) * k
    assert counts[0] == 0
    assert abs(chi - (size - 2)) < 5 * (2 * (size - 2)) ** 0.5


def test_a_large_pool_where_nearly_all_is_tied_to_a_row_is_still_searched_whole(pairs):
    rows = [{"i": f"i{n}", "q": "the same query", "p": f"p{n}", "c": "c"} for n in range(400)]
    rows += [{"i": f"j{n}", "q": f"other {n}", "p": f"r{n}", "c": "c"} for n in range(3)]
    result = pairs(rows, *PLAIN, "--negatives 5")
    assert all(
        sorted(row["neg"]) == ["r0", "r1", "r2"] for row in result.rows if row["id"][0] == "i"
    )
    assert all(len(row["neg"]) == 5 for row in result.rows if row["id"][0] == "j")


def test_texts_of_a_large_file_are_taken_as_those_of_a_small_one(pairs, monkeypatch):
    rows = shop(60, 2)
    expected = pairs(rows, *PLAIN, "--negatives 4").rows
    monkeypatch.setattr(stored_pairs, "SMALL", 0)
    monkeypatch.setattr(stored_pairs, "TAKEN_AT_ONCE", 7)
    assert pairs(rows, *PLAIN, "--negatives 4").rows == expected


def test_a_row_of_many_positives_takes_memory_in_proportion_to_them(pairs):
    count = 4200  # a list of all positives beside each would be 141 MB
    texts = [[f"p{n}" for n in range(count)], [f"r{n}" for n in range(20)]]
    table = {"t.jsonl": "".join(json.dumps({"q": str(n), "p": p}) + "\n" for n, p in enumerate(texts)).encode()}  # fmt: skip
    rows = pairs(table, "--query q --pos p --negatives 3").rows
    assert len(rows) == count + 20
    assert all(text[0] == "r" for row in rows[:count] for text in row["neg"])
    assert all(len(row["neg"]) == 3 for row in rows)


def test_rows_that_share_too_many_texts_are_refused_by_their_number(pairs, monkeypatch):
    monkeypatch.setattr(links, "MOST_KNOWN", 4)
    rows = [{"q": "a", "p": "b;c;d"}, {"q": "e", "p": "b;c;d"}, {"q": "f", "p": "g"}]
    result = pairs(rows, "--query q --pos p --separator p=; --negatives 1")
    assert result.rc == 1
    assert "row 1 of the table shares so many texts" in result.err
    assert pairs(rows, "--query q --pos p --separator p=;").rc == 0


def test_in_mode_each_a_negative_comes_from_the_column_of_the_positive(pairs):
    rows = [{"q": f"q{n}", "t": f"title {n}", "b": f"body {n}", "c": "c"} for n in range(9)]
    for row in pairs(rows, "--query q --pos t,b --category c --negatives 3").rows:
        assert {text.split()[0] for text in row["neg"]} == {row["pos"][0].split()[0]}
        assert len(row["neg"]) == 3


def test_without_negatives_the_column_is_absent_and_with_none_found_it_is_empty(pairs):
    rows = [{"q": "a", "p": "b", "c": "1"}, {"q": "c", "p": "d", "c": "2"}]
    assert "neg" not in pairs(rows, "--query q --pos p").rows[0]
    assert [
        row["neg"] for row in pairs(rows, "--query q --pos p --category c --negatives 2").rows
    ] == [[], []]
    assert [row["neg"] for row in pairs(rows, "--query q --pos p --negatives 2").rows] == [
        ["d"],
        ["b"],
    ]
