"""Which rows stand in which batch: every row once an epoch, the same order everywhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fletching.train.batch_order import plan_batches, random_permutation


@given(rows=st.integers(1, 60), batch=st.integers(1, 20), seed=st.integers(0, 99))
def test_every_row_stands_once_in_every_epoch(rows: int, batch: int, seed: int) -> None:
    plan = plan_batches(rows, batch=batch, seed=seed, epochs=2, steps=None)
    batches = list(plan)
    assert len(batches) == len(plan) == 2 * plan.epoch_steps
    for epoch in (batches[: plan.epoch_steps], batches[plan.epoch_steps :]):
        assert sorted(row for each in epoch for row in each) == list(range(rows))
        sizes = [len(each) for each in epoch]
        assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1


@given(rows=st.integers(1, 40), steps=st.integers(1, 30))
def test_a_run_of_steps_says_how_often_each_row_is_seen(rows: int, steps: int) -> None:
    plan = plan_batches(rows, batch=7, seed=1, epochs=None, steps=steps)
    counted = np.bincount([row for batch in plan for row in batch], minlength=rows)
    assert counted.tolist() == plan.row_counts().tolist()


def test_the_shuffle_is_the_same_on_every_version_of_numpy() -> None:
    assert random_permutation(8, 0, "0 ").tolist() == [4, 6, 5, 3, 7, 1, 0, 2]


def test_the_shuffle_moves_every_item_anywhere() -> None:
    places = np.array([random_permutation(6, seed, "x") for seed in range(600)])
    for column in places.T:
        assert np.bincount(column, minlength=6).min() > 60
