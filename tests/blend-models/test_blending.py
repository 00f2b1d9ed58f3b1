"""Mean and spherical interpolation, against what is computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blend_models.blending import WeightBlend

pytestmark = pytest.mark.slow  # as a whole: what one runs while typing ends in a minute

seeds = st.integers(0, 10**6)


def mean(tensors: list[torch.Tensor], weights: list[float], how: str = "mean") -> torch.Tensor:
    blend = WeightBlend(how, weights)
    for tensor, weight in zip(tensors, weights):
        blend.add({"x": tensor}, weight)
    return blend.result()["x"]


def slerp(tensors: list[torch.Tensor], weights: list[float]) -> torch.Tensor:
    return mean(tensors, weights, how="slerp")


def tensors(seed: int, count: int = 2) -> list[torch.Tensor]:
    gen = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, generator=gen) for _ in range(count)]


@given(seeds)
def test_the_mean_of_two_is_half_of_their_sum(seed: int) -> None:
    a, b = tensors(seed)
    assert torch.equal(mean([a, b], [1, 1]), a * 0.5 + b * 0.5)


@given(seeds)
def test_weights_are_shares_of_their_sum(seed: int) -> None:
    parts = tensors(seed, 3)
    wanted = sum(part.double() * share for part, share in zip(parts, (0.5, 0.3, 0.2)))
    blended = mean(parts, [5, 3, 2])
    assert torch.allclose(blended.double(), wanted, atol=1e-6)


@pytest.mark.parametrize("blend", [mean, slerp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_weight_of_zero_leaves_the_other_model_byte_for_byte(blend, dtype) -> None:  # type: ignore[no-untyped-def]
    a, b = (part.to(dtype) for part in tensors(1))
    assert torch.equal(blend([a, b], [2, 0]), a)
    assert torch.equal(blend([a, b], [0, 1]), b)


def test_half_precision_is_accumulated_in_float32() -> None:
    parts = [torch.full((1,), 1 + k * 2**-8, dtype=torch.bfloat16) for k in range(8)]
    exact = torch.stack(parts).double().mean()
    assert abs(mean(parts, [1] * 8).double().item() - exact.item()) <= 2**-8
    rounded = torch.zeros(1, dtype=torch.bfloat16)
    for part in parts:
        rounded += part / 8
    assert mean(parts, [1] * 8).item() == torch.stack(parts).float().mean().bfloat16().item()


@given(seeds, st.floats(0.01, 0.99))
def test_slerp_of_equal_tensors_is_that_tensor(seed: int, t: float) -> None:
    a, _ = tensors(seed)
    assert torch.equal(slerp([a, a], [1 - t, t]), a)


@given(seeds, st.floats(0.05, 0.95))
def test_slerp_of_unit_vectors_goes_along_the_arc(seed: int, t: float) -> None:
    """Of length 1, at angle t θ from the first."""
    a, b = (part.double() / part.double().norm() for part in tensors(seed))
    angle = math.acos(float((a * b).sum()))
    point = slerp([a, b], [1 - t, t])
    assert float(point.norm()) == pytest.approx(1, abs=1e-9)
    assert math.acos(float((a * point).sum())) == pytest.approx(t * angle, abs=1e-6)


def test_slerp_of_three_folds_from_the_left() -> None:
    a, b, c = tensors(5, 3)
    assert torch.equal(slerp([a, b, c], [1, 1, 2]), slerp([slerp([a, b], [1, 1]), c], [1, 1]))


@pytest.mark.parametrize("other", [-1.0, 0.0, 3.0])
def test_slerp_without_an_angle_is_the_straight_line(other: float) -> None:
    a, _ = tensors(3)
    assert torch.allclose(slerp([a, a * other], [1, 1]), a * (1 + other) / 2)
