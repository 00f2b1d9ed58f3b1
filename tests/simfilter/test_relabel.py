"""--relabel: negatives that score like a positive are moved, with the score and the reason in the row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simfilter import cli

JUDGED = {"pos_score_kind": "judge", "neg_score_kind": "judge"}


def row(name="a", pos=(), neg=(), **more):
    """A row whose sides are {text: score}."""
    pos, neg = dict(pos), dict(neg)
    return {
        "id": name,
        "query": f"query of {name}",
        "pos": list(pos),
        "pos_scores": list(pos.values()),
        "neg": list(neg),
        "neg_scores": list(neg.values()),
        **JUDGED,
        **more,
    }


def test_a_negative_that_scores_like_a_positive_is_moved_with_score_and_reason(sift):
    rows = [
        row(
            pos={"p": 0.75, "p2": 0.9},
            neg={"high": 0.8, "near": 0.7, "low": 0.1},
            pos_ids=["1", "2"],
            neg_ids=["3", "4", "5"],
            price=7,
        )
    ]
    kept, _, summary = sift(rows, None, "--use-scores", "--relabel", "--relabel-drop", 0.1)
    [changed] = kept
    assert changed["pos"] == ["p", "p2", "high"] and changed["neg"] == ["low"]
    assert changed["pos_ids"] == ["1", "2", "3"] and changed["neg_ids"] == ["5"]
    assert changed["pos_scores"] == pytest.approx([0.75, 0.9, 0.8])
    assert changed["neg_scores"] == pytest.approx([0.1]) and changed["price"] == 7
    assert changed["relabelled"] == ["high", "near"]
    assert changed["relabelled_scores"] == pytest.approx([0.8, 0.7])
    assert changed["relabelled_reasons"] == ["moved", "dropped: too near to call"]
    assert summary["measures"]["relabel"] == {
        "moved": 1,
        "dropped: too near to call": 1,
        "kept": 1,
        "rows changed": 1,
    }
    assert "negatives: 1 moved, 1 dropped: too near to call, 1 kept" in summary["err"]


@pytest.mark.parametrize(
    ("bounds", "moved"),
    [
        ([], ["c", "d"]),
        (["--relabel-margin", 0.25], ["b", "c", "d"]),
        (["--relabel-above", 0.25], ["b", "c", "d"]),
        (["--relabel-above", 0.75], ["d"]),
        (["--relabel-above", 0.75, "--relabel-margin", 0.5], ["d"]),
        (["--relabel-above", 0, "--relabel-margin", 0.25], ["b", "c", "d"]),
        (["--relabel-above", 1.5], []),
    ],
)
def test_both_bounds_have_to_be_met_and_are_inclusive(sift, bounds, moved):
    rows = [row(pos={"p": 0.5}, neg={"a": 0, "b": 0.25, "c": 0.5, "d": 0.75})]
    kept, _, _ = sift(rows, None, "--use-scores", "--relabel", *bounds)
    assert kept[0]["pos"] == ["p", *moved]
    assert kept[0]["neg"] == [text for text in "abcd" if text not in moved]


def test_a_copy_of_a_positive_or_of_another_negative_is_dropped(sift):
    rows = [row(pos={"p": 0.5})]
    rows[0] |= {"neg": ["p", "x", "x", "y"], "neg_scores": [0.1, 0.9, 0.9, 0.0]}
    kept, _, _ = sift(rows, None, "--use-scores", "--relabel")
    assert kept[0]["pos"] == ["p", "x"] and kept[0]["neg"] == ["y"]
    assert kept[0]["relabelled"] == ["p", "x", "x"]
    assert kept[0]["relabelled_reasons"] == ["dropped: copy", "moved", "dropped: copy"]


def test_rows_without_negatives_or_ids_stay_as_they_are(sift):
    rows = [row("a", pos={"p": 0.5}, neg={"n": 0.9}, pos_ids=["1"]), row("b", pos={"p": 1})]
    rows += [{"id": "c", "query": "q", "pos": ["p"], "pos_scores": [0], "pos_score_kind": "judge"}]
    kept, _, _ = sift(rows, None, "--use-scores", "--relabel")
    assert [each.get("neg") for each in kept] == [[], [], None]
    assert kept[0]["pos_ids"][0] == "1" and len(kept[0]["pos_ids"]) == 2
    assert all(each.get("pos_ids") is None for each in kept[1:])


def test_the_cosine_of_a_model_judges_too_and_both_sides_get_its_scores(sift):
    vectors = {"query of a": [1, 0], "p": [0.6, 0.8], "n": [0.8, 0.6], "far": [0, 1]}
    rows = [{"id": "a", "query": "query of a", "pos": ["p"], "neg": ["n", "far"]}]
    kept, _, summary = sift(rows, vectors, "--relabel")
    assert kept[0]["pos"] == ["p", "n"] and kept[0]["neg"] == ["far"]
    assert kept[0]["pos_scores"] == pytest.approx([0.6, 0.8])
    assert kept[0]["neg_scores"] == pytest.approx([0.0], abs=1e-6)
    assert kept[0]["pos_score_kind"] == kept[0]["neg_score_kind"] == "cosine"
    assert summary["rows_out"] == 1


def test_rows_with_better_scores_are_left_alone_unless_replaced(sift):
    vectors = {"query of a": [1, 0], "p": [0.6, 0.8], "n": [0.8, 0.6]}
    rows = [row(pos={"p": 0.1}, neg={"n": 0.2})]
    kept, _, summary = sift(rows, vectors, "--relabel")
    assert kept[0]["neg"] == ["n"] and kept[0]["neg_scores"] == pytest.approx([0.2])
    assert summary["measures"]["rows_with_scores_kept"] == 1
    kept, _, _ = sift(rows, vectors, "--relabel", "--replace-scores", name="b")
    assert kept[0]["pos"] == ["p", "n"]
    assert kept[0]["pos_scores"] == pytest.approx([0.6, 0.8])


def test_a_cross_encoder_judges_and_a_second_judge_keeps_the_account_of_the_first(
    sift, cross_encoder
):
    rows = [row(pos={"p": 0.5}, neg={"n": 0.9, "m": 0.2})]
    first, _, _ = sift(rows, None, "--use-scores", "--relabel")
    words = ("--cross-encoder", cross_encoder, "--relabel", "--replace-scores")
    second, _, summary = sift(
        first, None, *words, "--relabel-above", -1e6, "--relabel-margin", 1e6, name="b"
    )
    assert second[0]["pos"] == ["p", "n", "m"] and second[0]["pos_score_kind"] == "reranker"
    assert second[0]["relabelled"] == ["n", "m"]
    assert second[0]["relabelled_reasons"] == ["moved", "moved"]
    assert "looks like" not in summary["err"], "our own column is warned of"


def reference(each, above, margin, drop):
    """The rule in plain Python: (pos, neg)."""
    pos, neg = list(each["pos"]), []
    lowest = min(each["pos_scores"])
    bound = max(bound for bound in (above, lowest - margin) if bound is not None)
    seen = set(each["pos"])
    for text, score in zip(each["neg"], each["neg_scores"]):
        if text in seen:
            continue
        seen.add(text)
        if score >= bound:
            pos.append(text)
        elif score < bound - drop:
            neg.append(text)
    return pos, neg


SIDE = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 8)), max_size=6)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    sides=st.lists(st.tuples(SIDE.filter(bool), SIDE), min_size=1, max_size=6),
    above=st.sampled_from([None, 0.25, 0.5]),
    margin=st.sampled_from([0.0, 0.125, 0.5]),
    drop=st.sampled_from([0.0, 0.25]),
)
def test_any_rows_are_relabelled_as_the_rule_says(sift, sides, above, margin, drop):
    rows = []
    for number, (pos, neg) in enumerate(sides):
        pos = dict(pos)
        rows.append(row(f"r{number}", pos={text: score / 8 for text, score in pos.items()}))
        rows[-1] |= {"neg": [text for text, _ in neg], "neg_scores": [s / 8 for _, s in neg]}
    bounds = ["--relabel-margin", margin, "--relabel-drop", drop]
    bounds += ["--relabel-above", above] if above is not None else []
    kept, _, _ = sift(rows, None, "--use-scores", "--relabel", *bounds)
    for each, old in zip(kept, rows, strict=True):
        assert (each["pos"], each["neg"]) == reference(old, above, margin, drop)
        scores = dict(zip([*old["neg"], *old["pos"]], [*old["neg_scores"], *old["pos_scores"]]))
        assert len(each["pos_scores"]) == len(each["pos"])
        assert set(np.round(each["neg_scores"], 3)) <= {round(s, 3) for s in old["neg_scores"]}
        assert len(each["relabelled"]) == len(each["relabelled_reasons"])
        assert all(text in scores for text in each["relabelled"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--relabel-above", 0.5], "--relabel-above belongs to --relabel"),
        (["--relabel-drop", 0.5], "--relabel-drop belongs to --relabel"),
        (["--relabel", "--rank-within", 5, "--model", "m"], "run simfilter twice"),
    ],
)
def test_bounds_without_relabel_and_ranks_beside_it_are_refused(invoke, options, message):
    ran = invoke(cli.main, "in.jsonl", "--use-scores", *options)
    assert ran.rc == 2 and message in ran.err


def test_negatives_without_scores_of_the_same_kind_are_refused(invoke, write, tmp_path):
    bare = row(pos={"p": 1}, neg={"n": 1}, neg_score_kind="reranker")
    path = write(tmp_path / "in.jsonl", [bare])
    ran = invoke(cli.main, path, "--use-scores", "--relabel", "-o", tmp_path / "o.jsonl")
    assert ran.rc == 1 and "row 'a' has no `neg_scores` of the kind" in ran.err
    path = write(tmp_path / "no.jsonl", [{"query": "q", "pos": ["p"]}])
    ran = invoke(cli.main, path, "--use-scores", "--relabel", "-o", tmp_path / "o.jsonl")
    assert ran.rc == 1 and "no column `neg`" in ran.err
