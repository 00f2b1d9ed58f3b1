"""The learning rate over a run."""

from __future__ import annotations

import math

import pytest

from fletching.train.schedule import learning_rate_factor


def test_it_rises_to_the_highest_rate_and_falls_without_a_wasted_step() -> None:
    assert [learning_rate_factor(step, steps=6, warmup=2) for step in range(6)] == [
        0.5,
        1.0,
        1.0,
        0.75,
        0.5,
        0.25,
    ]
    assert [learning_rate_factor(step, steps=2, warmup=0) for step in range(2)] == [1.0, 0.5]
    assert min(learning_rate_factor(step, steps=9, warmup=9) for step in range(9)) > 0


def test_cosine_and_constant_follow_their_formula() -> None:
    assert learning_rate_factor(3, steps=6, warmup=2, kind="cosine") == pytest.approx(
        (1 + math.cos(math.pi / 4)) / 2
    )
    assert {
        learning_rate_factor(step, steps=6, warmup=2, kind="constant") for step in range(2, 6)
    } == {1.0}
