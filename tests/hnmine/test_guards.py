"""What never becomes a negative, each guard alone, and the count of what it took out."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairwise import cosine, random_units, write_vectors

from fletching.text import normalise
from hnmine import candidates, cli, guards

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

ALL = ("--max-ratio", 0, "--near-copy", 1.01, "--sample", "top", "--negatives", 10)
CIRCLE = {
    "q": [1, 0],
    "p": [0.8, 0.6],
    "near": [0.81, 0.59],
    "above": [0.95, 0.3],
    "middle": [0.5, 0.86],
    "far": [-0.2, 0.98],
    "away": [-1, 0.1],
}
ROW = [{"id": "r", "query": "q", "pos": ["p"]}]
OTHERS = [{"id": name, "text": name} for name in CIRCLE if name not in "qp"]


def negatives(run_hnmine, *options, rows=ROW, vectors=CIRCLE, corpus=OTHERS):
    mined, summary = run_hnmine(rows, vectors, *ALL, *options, corpus=corpus)
    return mined[0]["neg"], summary["measures"]["removed_by_guard"]


def test_without_guards_every_other_text_comes_by_rank(run_hnmine):
    assert negatives(run_hnmine) == (
        ["above", "near", "middle", "far", "away"],
        {"positive or copy": 1},
    )


@pytest.mark.parametrize(
    "options, left, reason, count",
    [
        (("--max-ratio", 0.9), ["middle", "far", "away"], "above --max-ratio", 2),
        (("--score-margin", 0.4), ["far", "away"], "above --score-margin", 3),
        (("--max-score", 0.4), ["far", "away"], "above --max-score", 3),
        (("--min-score", 0.0), ["above", "near", "middle"], "below --min-score", 2),
        (("--near-copy", 0.99), ["above", "middle", "far", "away"], "near copy of a positive", 1),
    ],
)
def test_each_guard_takes_out_its_own_and_counts_it(run_hnmine, options, left, reason, count):
    mined, removed = negatives(run_hnmine, *options)
    assert mined == left
    assert removed == {"positive or copy": 1, reason: count}


def test_guards_are_on_by_default(run_hnmine):
    mined, summary = run_hnmine(ROW, CIRCLE, "--sample", "top", corpus=OTHERS)
    assert mined[0]["neg"] == ["middle", "far", "away"]
    assert summary["measures"]["removed_by_guard"]["above --max-ratio"] == 2


def test_the_ratio_moves_a_negative_bound_down(run_hnmine):
    vectors = {
        "q": [1, 0],
        "p": [-0.5, 0.86],
        "a": [-0.51, 0.86],
        "b": [-0.6, 0.8],
    }  # cosines -0.503, -0.510, -0.6
    mined, _ = negatives(
        run_hnmine, "--max-ratio", 0.95, vectors=vectors, corpus=[{"text": "a"}, {"text": "b"}]
    )
    assert mined == ["b"]


def test_positives_of_the_same_query_in_other_rows_are_no_negatives(run_hnmine):
    rows = [
        {"query": "q", "pos": ["p"]},
        {"query": " Q ", "pos": ["near"]},
        {"query": "other", "pos": ["far"]},
    ]
    vectors = CIRCLE | {" Q ": [1, 0], "other": [0, 1]}
    mined, _ = run_hnmine(rows, vectors, *ALL)
    assert [row["neg"] for row in mined] == [["far"], ["far"], ["p", "near"]]


def test_the_lowest_positive_of_the_query_in_any_row_sets_the_bound(run_hnmine):
    rows = [{"query": "q", "pos": ["p"]}, {"query": "q", "pos": ["far"]}]
    mined, _ = run_hnmine(rows, CIRCLE, *ALL, "--max-ratio", 0.95, corpus=OTHERS)
    assert [row["neg"] for row in mined] == [["away"], ["away"]]


def test_a_near_copy_of_a_positive_of_another_row_of_the_query_goes(run_hnmine):
    rows = [{"query": "q", "pos": ["middle"]}, {"query": "q", "pos": ["p"]}]
    mined, _ = run_hnmine(rows, CIRCLE, *ALL, "--near-copy", 0.99, corpus=OTHERS)
    assert "near" not in mined[0]["neg"]


def test_the_query_and_what_equals_a_positive_are_no_negatives(run_hnmine):
    vectors = {"q": [1, 0], "P one": [0.8, 0.6], "p  ONE": [0.8, 0.6], "Ｑ": [1, 0.1], "n": [0, 1]}
    mined, _ = run_hnmine(
        [{"query": "q", "pos": ["P one"]}],
        vectors,
        *ALL,
        corpus=[{"text": text} for text in ("p  ONE", "Ｑ", "n")],
    )
    assert mined[0]["neg"] == ["n"]


def test_a_positive_keeps_the_score_of_its_own_spelling(run_hnmine):
    vectors = {"q": [1, 0], "P": [0.8, 0.6], "p": [0.6, 0.8], "r": [0, 1]}
    mined, _ = run_hnmine(
        [{"query": "q", "pos": ["P"]}, {"query": "r", "pos": ["p"]}], vectors, *ALL
    )
    assert [row["pos_scores"][0] for row in mined] == pytest.approx([0.8, 0.8])


def test_a_document_with_the_id_of_a_positive_is_no_negative(run_hnmine):
    rows = [{"query": "q", "pos": ["p"], "pos_ids": ["middle"]}]
    mined, _ = negatives(run_hnmine, rows=rows)
    assert mined == ["above", "near", "far", "away"]


def test_a_document_judged_relevant_is_no_negative(run_hnmine, tmp_path):
    qrels = tmp_path / "test.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nr\tmiddle\t1\nr\tfar\t0\nother\taway\t1\n")
    mined, _ = negatives(run_hnmine, "--exclude-qrels", qrels)
    assert mined == ["above", "near", "far", "away"]


def test_qrels_of_another_form_are_refused_with_their_line(invoke, write, tmp_path):
    qrels = tmp_path / "bad.tsv"
    qrels.write_text("q\td\t1\nq d 1\n")
    output = tmp_path / "o.jsonl"
    vectors = write_vectors(tmp_path / "v.jsonl", CIRCLE)
    examples = write(tmp_path / "in.jsonl", ROW)
    line = [examples, "--vectors", vectors, "--exclude-qrels", qrels, "-o", output]
    ran = invoke(cli.main, *line)
    assert ran.rc == 1
    assert "--exclude-qrels: " in ran.err and "bad.tsv, line 2" in ran.err
    assert not output.exists()


def test_qrels_that_are_missing_are_refused_by_the_name_of_their_option(invoke, write, tmp_path):
    vectors = write_vectors(tmp_path / "v.jsonl", CIRCLE)
    examples = write(tmp_path / "in.jsonl", ROW)
    qrels = tmp_path / "none.tsv"
    line = [examples, "--vectors", vectors, "--exclude-qrels", qrels, "-o", tmp_path / "o.jsonl"]
    ran = invoke(cli.main, *line)
    assert ran.rc == 1
    assert "--exclude-qrels: " in ran.err and "none.tsv" in ran.err


@pytest.mark.parametrize("stage", ["ranking", "range", "draw"])
def test_a_guard_is_one_entry_of_the_registry(run_hnmine, monkeypatch, stage):
    """Registered here alone, it runs in its stage, and its count is in the account."""
    monkeypatch.setattr(guards.GUARDS, "_entries", dict(guards.GUARDS._entries))

    @guards.guard("long text", stage=stage)
    def long_text(options):
        return pl.col("text").str.len_chars() > 4

    assert negatives(run_hnmine) == (
        ["near", "far", "away"],
        {"long text": 2, "positive or copy": 1},
    )


@pytest.mark.parametrize(
    ("stage", "left", "removed"),
    [
        ("ranking", ["near", "middle"], {"positive or copy": 1, "the nearest": 1}),
        # The positive comes behind the last rank.
        ("range", ["near"], {"the nearest": 1}),
        ("draw", ["near"], {"the nearest": 1}),
    ],
)
def test_a_guard_of_the_ranking_stage_takes_its_candidates_out_of_the_ranks(
    run_hnmine, monkeypatch, stage, left, removed
):
    monkeypatch.setattr(guards.GUARDS, "_entries", dict(guards.GUARDS._entries))

    @guards.guard("the nearest", stage=stage)
    def nearest(options):
        return pl.col("score") > 0.9

    options = ("--range", "1-2", "--negatives", 2)
    assert negatives(run_hnmine, *options) == (left, removed)


def test_a_guard_that_the_options_turn_off_is_not_counted(run_hnmine, monkeypatch):
    monkeypatch.setattr(guards.GUARDS, "_entries", dict(guards.GUARDS._entries))
    guards.guard("never", stage="range")(lambda options: None)
    assert negatives(run_hnmine)[1] == {"positive or copy": 1}


def test_a_column_of_candidates_is_one_entry_of_the_registry(run_hnmine, monkeypatch):
    """It is computed when a guard names it, for the candidates that are left alone."""
    monkeypatch.setattr(guards.GUARDS, "_entries", dict(guards.GUARDS._entries))
    monkeypatch.setattr(candidates.COLUMNS, "_entries", dict(candidates.COLUMNS._entries))
    computed = []

    @candidates.column("first_letter")
    def first_letter(frame, evidence):
        texts = evidence.pool.texts(frame["candidate"].to_numpy()).to_pylist()
        computed.extend(texts)
        return pl.Series([text[0] for text in texts], dtype=pl.String)

    guards.guard("an a", stage="range")(lambda options: pl.col("first_letter") == "a")
    mined, removed = negatives(run_hnmine, "--max-score", 0.9)
    assert mined == ["near", "middle", "far"] and removed["an a"] == 1
    assert sorted(computed) == ["away", "far", "middle", "near"]  # "above" was gone


def test_negatives_do_not_cross_domains(run_hnmine):
    corpus = [
        {"text": text, "domain": domain}
        for text, domain in (("near", "a"), ("middle", "b"), ("far", "a"), ("above", None))
    ]
    mined, _ = run_hnmine(
        [{"query": "q", "pos": ["p"], "domain": "a"}], CIRCLE, *ALL, corpus=corpus
    )
    assert mined[0]["neg"] == ["near", "far"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from("qrs"),
            st.lists(st.sampled_from(["a", "A", "b", "c ", "c", "d", "q"]), min_size=1, max_size=3),
            st.sampled_from([None, "x"]),
        ),
        min_size=1,
        max_size=8,
    ),
    seed=st.integers(0, 9),
)
def test_a_mined_negative_is_never_a_positive_an_equal_the_query_or_twice_there(
    run_hnmine, rows, seed
):
    names = ["q", "r", "s", "a", "A", "b", "c ", "c", "d"]
    vectors = dict(zip(names, random_units(len(names), seed=seed)))
    examples = [
        {"id": str(i), "query": query, "pos": pos} | ({"domain": domain} if domain else {})
        for i, (query, pos, domain) in enumerate(rows)
    ]
    mined_rows, summary = run_hnmine(
        examples, vectors, "--seed", seed, "--negatives", 3, "--range", "1-4", "--pad"
    )
    assert [{name: row[name] for name in ("id", "query", "pos")} for row in mined_rows] == [
        {name: row[name] for name in ("id", "query", "pos")} for row in examples
    ]
    for row in mined_rows:
        mates = [other for other in examples if other.get("domain") == row.get("domain")]
        known_answers = {
            normalise(text)
            for other in mates
            if other["query"] == row["query"]
            for text in other["pos"]
        } | {normalise(row["query"])}
        known = {normalise(text) for other in mates for text in other["pos"]}
        mined = [normalise(text) for text in row["neg"]]
        assert (
            not known_answers & set(mined)
            and set(mined) <= known
            and len(set(mined)) == len(mined) == len(row["neg_scores"])
        )
        floor = min(
            cosine(vectors[row["query"]], vectors[text])
            for other in mates
            if other["query"] == row["query"]
            for text in other["pos"]
        )
        assert all(score <= floor - 0.05 * abs(floor) + 1e-6 for score in row["neg_scores"])
    assert summary["measures"]["rows_short_of_negatives"] == sum(
        len(row["neg"]) - row["neg_padded"] < 3 for row in mined_rows
    )
