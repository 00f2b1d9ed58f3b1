"""The batch plan: every row once an epoch, one task a batch, nothing but data, seed and batch in it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrast_train.data.batch_sampler import BatchPlan, PlanSettings, plan
from contrast_train.data.task_mixing import sizes
from fletching.errors import InputError

tasks = st.lists(st.sampled_from([None, "nq", "sts", "faq"]), min_size=1, max_size=60)


@given(tasks, st.integers(2, 20), st.integers(0, 3), st.integers(0, 3))
def test_every_row_stands_in_an_epoch_exactly_once(
    names: list[str | None], batch: int, seed: int, epoch: int
) -> None:
    planned = plan(names, PlanSettings(batch=batch, seed=seed), epochs=1)
    batches = planned.epoch(epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(names)))
    assert len(batches) == planned.epoch_steps == planned.steps
    assert max(map(len, batches)) <= batch


@given(tasks, st.integers(2, 20))
def test_batches_hold_one_task_but_for_tasks_smaller_than_a_batch(
    names: list[str | None], batch: int
) -> None:
    counts = Counter(name or "" for name in names)
    for rows in plan(names, PlanSettings(batch=batch, seed=0), epochs=1).epoch(0):
        met = {names[row] or "" for row in rows}
        assert len(met) == 1 or all(counts[name] < batch for name in met)


def test_no_batch_is_left_with_a_single_row() -> None:
    planned = plan([None] * 13, PlanSettings(batch=4, seed=0), epochs=1)
    assert sorted(map(len, planned.epoch(0))) == [3, 3, 3, 4]
    alone = plan(["a"] * 8 + ["b"], PlanSettings(batch=4, seed=0), epochs=1)
    assert alone.describe()[-1].startswith("1 batches an epoch have a single row")


def test_small_tasks_are_merged_and_it_is_said() -> None:
    planned = plan(["big"] * 40 + ["a"] * 3 + ["b"] * 4, PlanSettings(batch=16, seed=0), epochs=2)
    assert planned.describe() == [
        "task big: 40 rows in batches of 14 and 13, seen 2 x, 0 left out",
        "task a: 3 rows in batches shared by 2 tasks, seen 2 x, 0 left out",
        "task b: 4 rows in batches shared by 2 tasks, seen 2 x, 0 left out",
    ]
    assert planned.steps == 2 * (3 + 1)


@given(tasks, st.integers(2, 9), st.integers(1, 30))
def test_steps_cut_the_plan_and_seen_counts_it(
    names: list[str | None], batch: int, steps: int
) -> None:
    planned = plan(names, PlanSettings(batch=batch, seed=1), steps=steps)
    batches = list(planned)
    assert len(batches) == len(planned) == steps
    assert Counter(row for part in batches for _, row in part) == Counter(
        {row: n for row, n in enumerate(planned.visit_counts.tolist()) if n}
    )


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(
            plan(["t"] * 50, PlanSettings(batch=8, seed=seed), epochs=3).epoch(epoch)
        ).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


# --- weights, mixing, last batches ---------------------------------------------------------------


def weighted(names: list[str], wanted: dict[str, int], epochs: int, **settings: bool) -> BatchPlan:
    order = list(dict.fromkeys(names))
    return plan(
        names,
        PlanSettings(batch=4, **settings),
        epochs=epochs,
        sizes=[wanted[name] for name in order],
    )


@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 4))
def test_a_task_is_gone_through_in_parts_until_every_row_was_seen(
    rows: int, size: int, epochs: int
) -> None:
    planned = weighted(["a"] * rows, {"a": size}, epochs)
    visits = [
        row for epoch in range(epochs) for batch in planned.epoch(epoch) for row in batch.tolist()
    ]
    assert len(visits) == size * epochs
    assert max(planned.visit_counts) - min(planned.visit_counts) <= 1, (
        "no row comes up again before all have been there"
    )
    assert Counter(visits) == Counter(
        {row: n for row, n in enumerate(planned.visit_counts.tolist()) if n}
    )


def test_a_weight_below_one_takes_another_part_each_epoch() -> None:
    planned = weighted(["a"] * 10, {"a": 5}, 2)
    first, second = (set(np.concatenate(planned.epoch(epoch)).tolist()) for epoch in (0, 1))
    assert first | second == set(range(10))
    assert planned.describe() == ["task a: 10 rows in batches of 3 and 2, seen 1 x, 0 left out"]


def test_a_row_that_comes_up_again_draws_other_negatives() -> None:
    planned = weighted(["a"] * 6, {"a": 12}, 1)
    assert sorted(key for batch in planned for key in batch) == sorted(
        (turn, row) for turn in (0, 1) for row in range(6)
    )


def test_what_a_weight_leaves_out_is_told() -> None:
    planned = weighted(["a"] * 10 + ["b"] * 8, {"a": 4, "b": 0}, 1)
    assert planned.describe() == [
        "task a: 10 rows in batches of 4, seen 0.4 x, 6 left out",
        "task b: 8 rows in batches of 0, seen 0 x, 8 left out",
    ]


def test_tasks_share_batches_when_mixed() -> None:
    names = ["a"] * 16 + ["b"] * 16
    apart, mixed = (
        plan(names, PlanSettings(batch=8, seed=0, mixed=mixed), epochs=1).epoch(0)
        for mixed in (False, True)
    )
    assert {len({names[row] for row in batch}) for batch in apart} == {1}
    assert max(len({names[row] for row in batch}) for batch in mixed) == 2


def test_smaller_last_batches_are_left_out_by_option_and_counted() -> None:
    planned = plan(["a"] * 10, PlanSettings(batch=4, drop_last=True), epochs=3)
    assert {len(batch) for batch in planned} == {4}
    assert planned.steps == 6
    assert planned.visit_counts.sum() == 24
    with pytest.raises(InputError, match="fill a batch of 20"):
        plan(["a"] * 10, PlanSettings(batch=20, drop_last=True), epochs=1)


def test_sizes_follow_weights_temperature_and_cap() -> None:
    assert sizes([100, 10], [1, 2]) == (100, 20)
    assert sizes([900, 100], [1, 1], temperature=2.0) == (750, 250)
    assert sizes([900, 100], [1, 1], temperature=1.0) == (900, 100)
    assert sizes([900, 100], [1, 0.5], cap=200) == (200, 50)
