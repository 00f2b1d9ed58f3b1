"""The batch plan: every row once an epoch, one task a batch, nothing but data, seed and batch in it."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contrast_train.plan import plan, shuffle

tasks = st.lists(st.sampled_from([None, "nq", "sts", "faq"]), min_size=1, max_size=60)


@given(tasks, st.integers(2, 20), st.integers(0, 3), st.integers(0, 3))
def test_every_row_stands_in_an_epoch_exactly_once(names: list[str | None], batch: int, seed: int, epoch: int) -> None:
    made = plan(names, batch=batch, seed=seed, epochs=1, steps=None)
    batches = made.epoch(epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(names)))
    assert len(batches) == made.epoch_steps == made.steps
    assert max(map(len, batches)) <= batch


@given(tasks, st.integers(2, 20))
def test_batches_hold_one_task_but_for_tasks_smaller_than_a_batch(names: list[str | None], batch: int) -> None:
    counts = Counter(name or "" for name in names)
    for rows in plan(names, batch=batch, seed=0, epochs=1, steps=None).epoch(0):
        found = {names[row] or "" for row in rows}
        assert len(found) == 1 or all(counts[name] < batch for name in found)


def test_small_tasks_are_merged_and_it_is_said() -> None:
    made = plan(["big"] * 40 + ["a"] * 3 + ["b"] * 4, batch=16, seed=0, epochs=2, steps=None)
    assert made.describe() == [
        "task big: 40 rows in batches of 16, each seen 2 times",
        "task a + b: 7 rows in batches of 7, each seen 2 times",
    ]
    assert made.steps == 2 * (3 + 1)


@given(tasks, st.integers(2, 9), st.integers(1, 30))
def test_steps_cut_the_plan_and_seen_counts_it(names: list[str | None], batch: int, steps: int) -> None:
    made = plan(names, batch=batch, seed=1, epochs=None, steps=steps)
    batches = list(made)
    assert len(batches) == len(made) == steps
    assert Counter(row for part in batches for _, row in part) == Counter({row: n for row, n in enumerate(made.seen().tolist()) if n})


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(plan(["t"] * 50, batch=8, seed=seed, epochs=3, steps=None).epoch(epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_the_shuffle_is_the_same_on_every_version_of_numpy() -> None:
    assert shuffle(8, 0, "0 ").tolist() == [4, 6, 5, 3, 7, 1, 0, 2]


def test_the_shuffle_moves_every_item_anywhere() -> None:
    places = np.array([shuffle(6, seed, "x") for seed in range(600)])
    for column in places.T:
        assert np.bincount(column, minlength=6).min() > 60
