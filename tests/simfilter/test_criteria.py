"""Which positives stay, which rows go, under each criterion, against their definitions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairwise import cosine, random_units

from simfilter import cli, criteria, scorers

pytestmark = pytest.mark.slow  # as a whole: seconds of draws and runs

PLANE = {"q": [1, 0]} | {
    f"c{int(100 * c)}": [c, (1 - c * c) ** 0.5] for c in (1.0, 0.9, 0.6, 0.3, 0.0, -0.5)
}


def row(*pos: str, **more) -> dict:
    return {"id": "-".join(pos), "query": "q", "pos": list(pos)} | more


def kept_texts(rows: list[dict]) -> list[list[str]]:
    return [row["pos"] for row in rows]


def test_min_sim_keeps_the_bound_itself_and_drops_what_is_below(sift):
    kept, gone, summary = sift([row("c90"), row("c60"), row("c30")], PLANE, "--min-sim", 0.6)
    assert kept_texts(kept) == [["c90"], ["c60"]]
    assert [(row["pos"], row["reject_reason"]) for row in gone] == [(["c30"], "below 0.6")]
    assert summary["dropped"] == {"below 0.6": 1}


def test_max_sim_drops_near_copies_of_the_query(sift):
    kept, gone, _ = sift([row("c100"), row("c60")], PLANE, "--max-sim", 0.95)
    assert kept_texts(kept) == [["c60"]] and gone[0]["reject_reason"] == "above 0.95"


def test_each_positive_is_judged_alone_and_lists_stay_aligned(sift):
    rows = [
        row("c90", "c0", "c60", pos_ids=["a", "b", "c"]),
        row("c0", pos_ids=["d"]),
        row("c30", "c0", pos_ids=["e", "f"]),
    ]
    kept, gone, summary = sift(rows, PLANE, "--min-sim", 0.2)
    assert [(row["pos"], row["pos_ids"]) for row in kept] == [
        (["c90", "c60"], ["a", "c"]),
        (["c30"], ["e"]),
    ]
    assert [row["pos_scores"] for row in kept] == [pytest.approx([0.9, 0.6]), pytest.approx([0.3])]
    assert len(gone) == 1 and gone[0]["pos_scores"] == pytest.approx([0])
    assert summary["measures"]["positives_dropped_from_kept_rows"] == 2


def test_rows_beside_rows_without_ids_keep_theirs(sift):
    rows = [
        row("c90", "c0", pos_ids=["a", "b"]),
        row("c90", "c0"),
        row("c0", "c60", pos_ids=["c", "d"]),
    ]
    kept, _, _ = sift(rows, PLANE, "--min-sim", 0.2)
    assert [row.get("pos_ids") for row in kept] == [["a"], None, ["d"]]


def test_a_row_goes_for_the_reason_of_its_best_positive(sift):
    _, gone, _ = sift([row("c100", "c0")], PLANE, "--min-sim", 0.2, "--max-sim", 0.95)
    assert gone[0]["reject_reason"] == "above 0.95"


def test_score_only_drops_nothing(sift):
    kept, gone, _ = sift([row("c90"), row("c-50")], PLANE, "--score-only")
    assert [row["pos_scores"][0] for row in kept] == pytest.approx(
        [0.9, -0.5], abs=1e-6
    ) and not gone
    assert {row["pos_score_kind"] for row in kept} == {"cosine"}


@pytest.mark.parametrize("share, count", [(1, 6), (0.5, 3), (0.34, 2), (0, 1)])
def test_keep_top_keeps_the_best_share_but_never_nothing(sift, share, count):
    rows = [row(name) for name in ("c0", "c100", "c-50", "c60", "c90", "c30")]
    kept, gone, _ = sift(rows, PLANE, "--keep-top", share)
    best = sorted(PLANE.keys() - {"q"}, key=lambda name: -PLANE[name][0])[:count]
    assert kept_texts(kept) == [row["pos"] for row in rows if row["pos"][0] in best]
    assert all(row["reject_reason"] == f"outside the best {share:.0%}" for row in gone)


@pytest.mark.parametrize("by", ["task", "domain"])
def test_keep_top_by_group_keeps_the_share_of_each(sift, by):
    rows = [
        row("c100", **{by: "x"}),
        row("c90", **{by: "x"}),
        row("c30", **{by: "y"}),
        row("c0", **{by: "y"}),
        row("c60"),
        row("c-50"),
    ]
    kept, gone, _ = sift(rows, PLANE, "--keep-top", 0.5, "--keep-top-by", by)
    assert kept_texts(kept) == [["c100"], ["c30"], ["c60"]]
    assert gone[0]["reject_reason"] == f"outside the best 50% of the {by}"
    assert kept_texts(sift(rows, PLANE, "--keep-top", 0.5)[0]) == [["c100"], ["c90"], ["c60"]]


def test_criteria_combine(sift):
    rows = [row(name) for name in ("c100", "c90", "c60", "c30")]
    kept, gone, _ = sift(rows, PLANE, "--keep-top", 0.75, "--max-sim", 0.95, "--min-sim", 0.7)
    assert kept_texts(kept) == [["c90"]]
    assert [row["reject_reason"] for row in gone] == ["above 0.95", "below 0.7", "below 0.7"]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), bound=st.floats(-0.9, 0.5), step=st.floats(0, 0.5))
def test_output_is_part_of_the_input_in_order_and_a_higher_threshold_keeps_less(
    sift, seed, bound, step
):
    draw = np.random.default_rng(seed)
    names = [f"t{i}" for i in range(20)]
    vectors = dict(zip(names, random_units(20, 3, seed)))
    rows = [
        {
            "id": str(i),
            "query": names[i],
            "pos": [names[j] for j in draw.integers(0, 20, draw.integers(1, 4))],
            "note": i,
        }
        for i in range(12)
    ]
    low, gone, _ = sift(rows, vectors, f"--min-sim={bound}")
    high, _, _ = sift(rows, vectors, f"--min-sim={bound + step}")
    positions = {row["id"]: i for i, row in enumerate(rows)}
    for outcome in (low, high):
        assert [positions[row["id"]] for row in outcome] == sorted(
            positions[row["id"]] for row in outcome
        )
        for row in outcome:
            source = rows[positions[row["id"]]]
            assert (row["query"], row["note"]) == (source["query"], source["note"])
            assert row["pos"] == [text for text in source["pos"] if text in row["pos"]] and len(
                row["pos"]
            ) == len(row["pos_scores"])
    expected = [
        [text for text in row["pos"] if cosine(vectors[row["query"]], vectors[text]) >= bound]
        for row in rows
    ]
    assert kept_texts(low) == [texts for texts in expected if texts]
    below = {row["id"]: row["pos"] for row in low}
    assert all(set(row["pos"]) <= set(below[row["id"]]) for row in high)
    assert len(low) + len(gone) == len(rows)


# --- registries ----------------------------------------------------------------------------------


def test_a_criterion_is_one_entry_of_the_registry(sift, monkeypatch):
    """Registered here alone, its reason is in the account and in the rejects."""
    monkeypatch.setattr(criteria.CRITERIA, "_entries", dict(criteria.CRITERIA._entries))

    @criteria.criterion("short", reason=lambda options: "a short positive")
    def short(options):
        return pl.col("positive").str.len_chars() < 3

    rows = [row("c90"), row("c0"), row("c0", "c90")]
    kept, gone, summary = sift(rows, PLANE, "--min-sim", -1)
    assert kept_texts(kept) == [["c90"], ["c90"]]
    assert [row["reject_reason"] for row in gone] == ["a short positive"]
    assert summary["dropped"] == {"a short positive": 1}


def test_a_scorer_is_one_entry_of_the_registry(sift, monkeypatch):
    """It replaces the cosine, under the kind of score that it is registered for."""
    monkeypatch.setattr(scorers.SCORERS, "_entries", dict(scorers.SCORERS._entries))
    del scorers.SCORERS._entries["cosine"]

    @scorers.scorer("cosine")
    def by_length(models):
        def score(rows):
            return np.array([len(text) for text in rows["pos"].flatten().to_pylist()], np.float32)

        return score

    kept, _, _ = sift([row("c90"), row("c0")], PLANE, "--score-only")
    assert [row["pos_scores"] for row in kept] == [[3.0], [2.0]]


def reference_reasons(positives: list[tuple], options: dict) -> list[str | None]:
    """Why each (score, rank, group) fails, criterion by criterion, from their definitions."""
    reasons = []
    for score, rank, group in positives:
        of_group = sorted((s for s, _, g in positives if g == group), reverse=True)
        kept = max(round(len(of_group) * options.get("keep_top", 1)), 1)
        by = "" if options["by"] == "all" else f" of the {options['by']}"
        conditions = {
            f"above {options.get('max_sim'):g}" if "max_sim" in options else "": "max_sim"
            in options
            and score > np.float32(options["max_sim"]),
            f"below {options.get('min_sim'):g}" if "min_sim" in options else "": "min_sim"
            in options
            and score < np.float32(options["min_sim"]),
            f"not among the best {options.get('rank_within')} of the pool": "rank_within" in options
            and rank > options["rank_within"],
            f"outside the best {options.get('keep_top', 1):.0%}{by}": "keep_top" in options
            and score < of_group[kept - 1],
        }
        reasons.append(next((reason for reason, holds in conditions.items() if holds), None))
    return reasons


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 999), active=st.integers(1, 15), by=st.sampled_from(["all", "domain"]))
def test_any_criteria_together_agree_with_their_definitions(sift, monkeypatch, seed, active, by):
    """Rows, rejects with their reasons, and the account; over units that --keep-top compares."""
    monkeypatch.setattr("fletching.table.row_units.UNIT", 7)
    draw = np.random.default_rng(seed)
    names = [f"q{i}" for i in range(20)] + [f"t{i}" for i in range(30)]
    vectors = dict(zip(names, random_units(len(names), 3, seed)))
    rows = [
        {
            "id": str(i),
            "query": f"q{i}",
            "pos": [f"t{j}" for j in draw.choice(30, draw.integers(1, 4), replace=False)],
            "domain": "xyz"[draw.integers(3)],
        }
        for i in range(20)
    ]
    drawn = {"min_sim": -0.25, "max_sim": 0.75, "rank_within": 4, "keep_top": 0.4}
    options = {name: bound for i, (name, bound) in enumerate(drawn.items()) if active & 1 << i}
    scores = {
        row["id"]: scored["pos_scores"]
        for row, scored in zip(rows, sift(rows, vectors, "--score-only")[0])
    }
    positives = [
        (
            np.float32(score),
            reference_rank(rows, vectors, row, text, []),
            None if by == "all" else row["domain"],
        )
        for row in rows
        for text, score in zip(row["pos"], scores[row["id"]])
    ]
    reasons = iter(reference_reasons(positives, options | {"by": by}))
    expected_rows, expected_rejects = [], []
    for row in rows:
        whys = [next(reasons) for _ in row["pos"]]
        kept = [text for text, why in zip(row["pos"], whys) if why is None]
        best = int(np.argmax(scores[row["id"]]))
        if kept:
            expected_rows.append((row["id"], kept))
        else:
            expected_rejects.append((row["id"], whys[best]))
    words = [word for name, x in options.items() for word in (f"--{name.replace('_', '-')}={x}",)]
    grouped = ["--keep-top-by", by] if "keep_top" in options else []
    kept, gone, summary = sift(rows, vectors, *words, *grouped)
    assert [(row["id"], row["pos"]) for row in kept] == expected_rows
    assert [(row["id"], row["reject_reason"]) for row in gone] == expected_rejects
    assert summary["dropped"] == Counter(reason for _, reason in expected_rejects)


# --- ranks ---------------------------------------------------------------------------------------


def reference_rank(rows: list[dict], vectors: dict, row: dict, text: str, corpus: list[str]) -> int:
    pool = {
        other for each in rows if each.get("domain") == row.get("domain") for other in each["pos"]
    } | set(corpus)
    known_answers = {
        other
        for each in rows
        if each["query"] == row["query"] and each.get("domain") == row.get("domain")
        for other in each["pos"]
    } | {row["query"]}
    score = cosine(vectors[row["query"]], vectors[text])
    return 1 + sum(
        cosine(vectors[row["query"]], vectors[other]) > score + 1e-5
        for other in pool - known_answers
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 99), within=st.integers(1, 6), domains=st.sampled_from([[None], ["a", "b"]])
)
def test_rank_within_agrees_with_counting_by_hand(sift, seed, within, domains):
    draw = np.random.default_rng(seed)
    names = [f"q{i}" for i in range(8)] + [f"t{i}" for i in range(20)]
    vectors = dict(zip(names, random_units(len(names), 4, seed)))
    vectors["t1"] = vectors["t0"]  # a tie
    rows = [
        {
            "id": str(i),
            "query": f"q{draw.integers(8)}",
            "pos": [f"t{j}" for j in draw.choice(20, draw.integers(1, 3), replace=False)],
            "domain": domains[i % len(domains)],
        }
        for i in range(16)
    ]
    kept, gone, _ = sift(rows, vectors, "--rank-within", within)
    expected = [
        [text for text in row["pos"] if reference_rank(rows, vectors, row, text, []) <= within]
        for row in rows
    ]
    assert kept_texts(kept) == [texts for texts in expected if texts]
    assert all(row["reject_reason"] == f"not among the best {within} of the pool" for row in gone)


def test_a_corpus_joins_the_pool_and_copies_of_a_positive_do_not_count(sift, write, tmp_path):
    vectors = PLANE | {"C60": [1, 0], "title c90": [0.95, 0.3]}
    corpus = write(
        tmp_path / "corpus.jsonl",
        [{"text": "c90", "title": "title"}, {"text": "C60"}, {"text": "q"}],
    )
    assert kept_texts(sift([row("c60")], vectors, "--rank-within", 1)[0]) == [["c60"]]
    assert kept_texts(sift([row("c60")], vectors, "--rank-within", 1, "--corpus", corpus)[0]) == []
    assert kept_texts(sift([row("c60")], vectors, "--rank-within", 2, "--corpus", corpus)[0]) == [
        ["c60"]
    ]


# --- wrong usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        (("--score-only", "--min-sim", "0.5"), "--score-only drops nothing"),
        (("--score-only", "--rank-within", "5"), "--score-only drops nothing"),
        (("--min-sim", "0.5", "--max-sim", "0.2"), "nothing can pass"),
        (("--min-sim", "5"), "--min-sim 5 is above 1"),
        (("--keep-top", "0.5", "--shard", "0/2"), "--keep-top needs all scores"),
        (("--min-sim", "0.5", "--shard", "2/2"), "--shard 2/2 is no part of a whole"),
        (("--min-sim", "0.5", "--corpus", "c.jsonl"), "--rank-within, which is missing"),
        (("--min-sim", "0.5", "--ngram", "3"), "--decontaminate, which is missing"),
        (
            ("--use-scores", "--min-sim", "0.5", "--replace-scores"),
            "--use-scores keeps the scores",
        ),
        (("--cross-encoder", "ce", "--min-sim", "0.5", "--as-pairs"), "the scores are not cosines"),
        (("--vectors", "v", "--min-sim", "0.5"), "exclude each other"),
    ],
)
def test_options_that_cannot_work_are_refused_as_usage(invoke, options, message):
    ran = invoke(cli.main, "in.jsonl", "--model", "m", *options, "-o", "out.jsonl")
    assert ran.rc == 2 and message in ran.err


def test_no_model_is_a_wrong_usage(invoke):
    ran = invoke(cli.main, "in.jsonl", "--min-sim", 0.5, "-o", "out.jsonl")
    assert ran.rc == 2 and "--model is missing" in ran.err


def test_without_a_criterion_the_default_is_said_and_used(sift):
    names = [f"t{i}" for i in range(80)]
    vectors = {"q": [1, 0]} | {name: [1, 0.01 * i] for i, name in enumerate(names)}
    rows = [
        {"id": "r", "query": "q", "pos": ["t50"]},
        *({"id": name, "query": name, "pos": [name]} for name in names if name != "t50"),
    ]
    _, gone, summary = sift(rows, vectors)
    assert "there is no criterion: --rank-within 50 is used" in summary["err"]
    assert "of the rows are dropped" not in summary["err"]
    assert (
        "r" in [row["id"] for row in gone]
        and gone[0]["reject_reason"] == "not among the best 50 of the pool"
    )


def test_the_default_says_when_it_drops_most_rows(sift):
    """120 pairs that a model does not understand: most positives lie nowhere near their query."""
    rows = [{"query": f"q{i}", "pos": [f"p{i}"]} for i in range(120)]
    names = [text for row in rows for text in (row["query"], *row["pos"])]
    vectors = dict(zip(names, np.random.default_rng(0).normal(size=(len(names), 16))))
    kept, _, summary = sift(rows, vectors)
    share = f"{1 - len(kept) / 120:.0%}"
    assert (
        len(kept) < 60
        and f"{share} of the rows are dropped: does the model know their language?"
        in summary["err"]
    )
    assert (
        "of the rows are dropped"
        not in sift(rows, vectors, "--rank-within", 50, name="chosen")[2]["err"]
    )


@pytest.mark.parametrize("options", [(), ("--keep-top", 0.5), ("--min-sim", 0.2, "--as-pairs")])
def test_an_input_without_rows_gives_an_output_without_rows(sift, options):
    kept, gone, summary = sift([], {"q": [1, 0]}, *options)
    assert kept == gone == [] and summary["rows_in"] == summary["rows_out"] == 0


def test_scores_without_a_criterion_are_a_wrong_usage(invoke):
    ran = invoke(cli.main, "in.jsonl", "--use-scores", "-o", "out.jsonl")
    assert ran.rc == 2 and "there is no criterion" in ran.err
