"""Which candidate is surely better, and what the verdict says of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching_tune.selection import (
    Choice,
    Gain,
    choose,
    group_values,
    interval,
    lower_bounds,
    smallest_visible,
)
from fletching_tune.verdict import Findings, judge, worth_of_twice

pytestmark = pytest.mark.slow  # as a whole: what one runs while typing ends in a minute


def winner(gains: dict[str, np.ndarray], seed: int = 0) -> str | None:
    return choose(lower_bounds(gains, seed), gains, {}).winner


def noise(seed: int, queries: int = 200, candidates: int = 8) -> dict[str, np.ndarray]:
    values = np.random.default_rng(seed).normal(0, 0.2, (candidates, queries))
    return {f"c{number}": row for number, row in enumerate(values)}


def test_noise_is_chosen_in_one_of_twenty_runs_however_many_candidates_are_looked_at():
    chosen = sum(winner(noise(seed)) is not None for seed in range(40))
    assert chosen <= 6  # of 40 at 5 %: more with p < 0.01


def test_one_candidate_has_the_bound_of_the_one_sided_t():
    [gains] = noise(3, candidates=1).values()
    [bound] = lower_bounds({"c": gains}, 0).values()
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    assert bound.low == pytest.approx(gains.mean() - 1.65 * error, abs=0.1 * error)


def test_copies_of_a_candidate_cost_nothing():
    [gains] = noise(3, candidates=1).values()
    alone = lower_bounds({"c": gains}, 0)["c"]
    among = lower_bounds({f"c{number}": gains for number in range(20)}, 0)["c7"]
    assert among.low == pytest.approx(alone.low)


@settings(max_examples=12)
@given(st.integers(0, 1000), st.floats(0.1, 1))
def test_a_clear_gain_is_found_and_the_base_is_not(seed, gain):
    gains = noise(seed, candidates=3)
    gains["good"] = gains["c0"] + gain + 0.05
    gains["base"] = np.zeros(200)
    assert winner(gains, seed) == "good"
    assert lower_bounds(gains, seed)["base"].low == 0


def test_a_candidate_that_changes_nothing_is_not_chosen():
    assert winner({"same": np.zeros(50)}) is None
    assert winner({}) is None
    assert winner({"one query": np.ones(1)}) is None


def choice(difference: float, **kept: float) -> Choice:
    """Between `tuned` and `blend`, whose gain is lower by so many of its standard errors."""
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    noise = (noise - noise.mean()) / noise.std(ddof=1) * 10  # a standard error of 1
    gains = {"tuned": np.full(100, 30.0) + noise / 2, "blend": 30 - difference - noise / 2}
    least = kept.pop("least", 0.0)
    return choose(lower_bounds(gains, 0), gains, kept, least=least)


def test_of_candidates_that_are_as_good_the_one_that_keeps_more_is_chosen():
    assert choice(0.9, tuned=0.6, blend=0.8).winner == "blend"
    assert "keeps 80% of the guard, tuned 60%" in choice(0.9, tuned=0.6, blend=0.8).reason
    assert choice(1.1, tuned=0.6, blend=0.8).winner == "tuned"  # clearly better
    assert choice(0.9, tuned=0.78, blend=0.8).winner == "tuned"  # not worth it
    assert choice(0.9, tuned=0.8, blend=0.6).winner == "tuned"
    assert choice(0.9).winner == "tuned"


def test_candidates_below_the_guard_share_are_left_out():
    assert choice(9, tuned=0.6, blend=0.8, least=0.7).winner == "blend"
    nobody = choice(9, tuned=0.6, blend=0.8, least=0.9)
    assert nobody.winner is None
    assert "no candidate keeps 90% of the guard: blend" in nobody.reason
    verdict = judge(findings(winner=None, test=None, choice=nobody.reason), tuned="tuned")
    assert "no candidate keeps 90%" in verdict.line and "--guard-share" in verdict.line


def test_the_smallest_visible_gain_has_80_percent_power():
    generator = np.random.default_rng(0)
    visible = smallest_visible([generator.normal(0, 0.2, 100)])
    wins = sum(
        interval(generator.normal(visible, 0.2, 100), number).low > 0 for number in range(60)
    )
    assert 37 <= wins <= 58


def findings(**changes: object) -> Findings:
    settings = {
        "base": "M",
        "winner": "infonce-100",
        "dev": Gain(value=0.05, low=0.02, high=0.08),
        "test": Gain(value=0.041, low=0.012, high=0.07),
        "queries": 312,
        "base_score": 0.6,
        "bm25_score": 0.4,
        "smallest_visible": 0.02,
    }
    return Findings(**settings | changes)


def test_the_verdict_is_one_line():
    line = judge(findings(), tuned="tuned").line
    assert line == "verdict: WIN +0.041 [+0.012, +0.070] nDCG@10 over 312 held-out queries"


@pytest.mark.parametrize(
    ("changes", "start", "words"),
    [
        ({"test": Gain(value=0.01, low=-0.01, high=0.03), "queries": 60}, "MARGINAL +0.010", "60 queries show differences of 0.020"),
        ({"test": Gain(value=-0.01, low=-0.03, high=0.01)}, "NO GAIN: keep the base M", "better on dev"),
        ({"winner": None, "test": None}, "NO GAIN: keep the base M", "no candidate is surely better"),
        ({"winner": None, "test": None, "dev": None}, "NO GAIN: keep the base M", "no candidate was better"),
        ({"winner": None, "test": None, "base_score": 0.97}, "NO GAIN: keep the base M", "already reaches 0.970"),
        ({"winner": None, "test": None, "bm25_score": 0.7}, "NO GAIN: keep the base M", "BM25 alone reaches 0.700"),
        ({"winner": None, "test": None, "curve": [(0.25, 0.0), (0.5, 0.01), (1.0, 0.02)]}, "NO GAIN", "twice as many are worth about +0.010"),
        ({"winner": None, "test": None, "curve": [(0.25, 0.02), (0.5, 0.02), (1.0, 0.02)]}, "NO GAIN", "more rows alone add little"),
        ({"winner": None, "test": None, "queries": 40}, "NO GAIN", "more held-out queries"),
    ],
)  # fmt: skip
def test_the_verdict_names_the_reason_and_the_next_step(changes, start, words):
    verdict = judge(findings(**changes), tuned="tuned")
    assert verdict.line.startswith(f"verdict: {start}")
    assert words in verdict.line
    assert verdict.line.count("show differences") <= 1
    assert verdict.model == ("M" if verdict.outcome == "NO GAIN" else "tuned")


def test_twice_the_rows_are_worth_the_mean_of_the_doublings():
    assert worth_of_twice([(1.0, 0.03), (0.25, 0.01), (0.5, 0.02)]) == pytest.approx(0.01)
    assert worth_of_twice([]) is None


def test_queries_with_the_same_answers_count_as_one_observation():
    gains = np.random.default_rng(0).normal(0.1, 0.2, 300)
    alone = group_values(gains, np.arange(300))
    assert alone == pytest.approx(gains)
    repeated = group_values(np.repeat(gains, 5), np.repeat(np.arange(300), 5))
    assert repeated == pytest.approx(gains)
    uneven = group_values(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 1]))
    assert uneven.mean() == pytest.approx(0.75)
