"""Blends of tensors. Needs torch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PARALLEL = 1e-6  # radians: below it, or so near to opposite, no arc is defined by the two

Blend = Callable[[Sequence[Tensor], Sequence[float]], Tensor]


def mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_k w_k x_k / sum_k w_k, accumulated in float32, in the dtype of the first tensor.

    A model of weight 0 has no part in it. Equal weights give the uniform model soup of Wortsman et
    al. 2022 (arXiv 2203.05482); a base and a model tuned from it give WiSE-FT (arXiv 2109.01903).
    """
    total = math.fsum(weights)
    blended: Tensor | None = None
    for tensor, weight in zip(tensors, weights):
        if not weight:
            continue
        part = _at_least_float32(tensor) * (weight / total)
        blended = part if blended is None else blended.add_(part)
    assert blended is not None
    return blended.to(tensors[0].dtype)


def slerp(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Spherical interpolation of whole tensors, in the dtype of the first one (Shoemake 1985).

        slerp(a, b; t) = [ sin((1 - t) θ) a + sin(t θ) b ] / sin θ,   cos θ = a·b / (|a| |b|)

    More than two are folded from the left: the result of the first k, with the sum of their
    weights, and the next one; so their order matters. Where two tensors have no angle (parallel,
    opposite, zero), the straight line a + t (b - a) is taken.
    """
    blended, sum_of_weights = None, 0.0
    for tensor, weight in zip(tensors, weights):
        if not weight:
            continue
        sum_of_weights += weight
        value = _at_least_float32(tensor)
        blended = value if blended is None else _arc(blended, value, weight / sum_of_weights)
    assert blended is not None
    return blended.to(tensors[0].dtype)


def _arc(a: Tensor, b: Tensor, t: float) -> Tensor:
    angle = _angle(a, b)
    if angle < PARALLEL or math.pi - angle < PARALLEL:
        return a + t * (b - a)
    share_of_a = math.sin((1 - t) * angle) / math.sin(angle)
    share_of_b = math.sin(t * angle) / math.sin(angle)
    return share_of_a * a + share_of_b * b


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two tensors as vectors, in radians; 0 where one of them is zero.

    By both chords (Kahan): accurate near 0 and π too, where the cosine is flat.
    """
    x, y = a.double().flatten(), b.double().flatten()
    lengths = x.norm(), y.norm()
    if not all(lengths):
        return 0.0
    x, y = x / lengths[0], y / lengths[1]
    return 2 * math.atan2(float((x - y).norm()), float((x + y).norm()))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


BLENDS: dict[str, Blend] = {"mean": mean, "slerp": slerp}
