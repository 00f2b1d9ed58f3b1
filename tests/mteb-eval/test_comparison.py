"""Intervals and tests against enumeration and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from mteb_eval.scoring import comparison
from mteb_eval.scoring.task_result import TaskResult


def query_result(values, run_values=None):
    values = np.asarray(values, float)
    ranks = [1 if value else 0 for value in values]
    table = pa.table(
        {
            "id": [f"{number:04}" for number in range(len(values))],
            "rank": ranks,
            "ndcg_at_10": values,
        }
    )
    return task_result(table, {"ndcg_at_10": float(values.mean())})


def task_result(observed, scores):
    return TaskResult(
        task="t",
        kind="Retrieval",
        split="test",
        subset="default",
        main_metric="ndcg_at_10",
        scores=scores,
        observed=observed,
    )


def figures(base, other, seed=0):
    return list(
        comparison.compare_runs(
            {"base": query_result(base), "other": query_result(other)},
            baseline="base",
            metric="ndcg_at_10",
            seed=seed,
        )
    )


def test_p_is_the_share_of_all_sign_choices_that_reach_the_difference():
    differences = np.array([0.5, -0.25, 0.5, 0.25, 1.0, 0.125, -0.5, 0.75])
    totals = [
        abs(np.dot(signs, differences))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    exact = np.mean([total >= differences.sum() - 1e-12 for total in totals])
    assert comparison.randomisation_test(differences, 0) == pytest.approx(exact, abs=0.015)


def test_equal_runs_differ_by_nothing_and_that_is_no_finding():
    values = np.random.default_rng(0).random(50)
    _, other = figures(values, values)
    assert (other.change.value, other.change.low, other.change.high, other.p) == (0, 0, 0, 1.0)


def test_an_even_gain_on_every_query_is_certain_though_the_single_intervals_overlap():
    values = np.random.default_rng(0).random(60)
    base, other = figures(values, values + 0.02)
    assert base.value.high > other.value.low
    assert other.change.low == pytest.approx(0.02)
    assert other.change.high == pytest.approx(0.02)
    assert other.p < 0.001


def test_the_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(3).random(400)
    base, _ = figures(values, values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (base.value.high - base.value.low) / 2 == pytest.approx(half, rel=0.1)
    assert base.value.low < values.mean() < base.value.high


def test_about_one_in_twenty_runs_of_pure_chance_is_called_a_finding():
    generator = np.random.default_rng(1)
    is_significant = [
        comparison.randomisation_test(generator.standard_normal(30), 0) < 0.05 for _ in range(200)
    ]
    assert 2 <= sum(is_significant) <= 22


def test_the_same_seed_gives_the_same_ends_and_another_seed_others():
    values = np.random.default_rng(5).random(40)
    assert figures(values, values**2, 1) == figures(values, values**2, 1)
    assert figures(values, values**2, 1) != figures(values, values**2, 2)


def test_moves_are_ordered_by_reciprocal_rank_and_a_lost_query_falls():
    def ranked(ranks):
        table = pa.table({"id": ["a", "b", "c", "d"], "rank": ranks})
        return task_result(table, {})

    rose, fell = comparison.find_moves(
        ranked([900, 2, 1, 5]), ranked([400, 1, 0, 5]), {"b": "second", "c": "third"}, 5
    )
    assert [(move.query, move.before, move.after) for move in rose] == [
        ("second", 2, 1),
        ("a", 900, 400),
    ]
    assert [(move.query, move.before, move.after) for move in fell] == [("third", 1, 0)]
