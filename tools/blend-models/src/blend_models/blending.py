"""Blends of tensors, one model after the other. Needs torch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fletching.errors import InputError

PARALLEL = 1e-6  # radians: below it, or so near to opposite, no arc is defined by the two

# (the blend so far, the next tensor, its weight over the sum of the weights so far and its own,
# its weight over the sum of all) -> the blend
Step = Callable[..., Tensor]


class WeightBlend:
    """The blend of the models that were added, tensor by tensor, accumulated in float32.

    weights: of all models that will be added. In memory: one model, in float32.
    """

    def __init__(self, how: str, weights: list[float]) -> None:
        self.step = STEPS[how]
        self.total = math.fsum(weights)
        self.added = 0.0
        self.tensors: dict[str, Tensor] = {}
        self.dtypes: dict[str, torch.dtype] = {}

    def add(self, tensors: Mapping[str, Tensor], weight: float) -> None:
        """Add a model. The first one gives the dtypes; one of weight 0 has no other part in it.

        Raises InputError for tensors of whole numbers that differ.
        """
        self.dtypes = self.dtypes or {name: tensor.dtype for name, tensor in tensors.items()}
        self.added += weight
        for name, tensor in tensors.items():
            earlier = self.tensors.get(name)
            if not tensor.is_floating_point():
                self._check_equal(name, tensor, earlier)
            elif weight:
                part = _at_least_float32(tensor)
                self.tensors[name] = self.step(
                    earlier,
                    part,
                    share_so_far=weight / self.added,
                    share=weight / self.total,
                )

    def _check_equal(self, name: str, tensor: Tensor, earlier: Tensor | None) -> None:
        if earlier is None:
            self.tensors[name] = tensor.clone()
        elif not torch.equal(earlier, tensor):
            raise InputError(
                f"`{name}` holds whole numbers, which differ between the models",
                "blend models that were tuned from one base",
            )

    def result(self) -> dict[str, Tensor]:
        """The blended tensors. Raises InputError for one that is not finite."""
        for name, tensor in self.tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise InputError(
                    f"the blend of `{name}` is not finite",
                    "look for the model whose training diverged, and leave it out",
                )
        return {name: tensor.to(self.dtypes[name]) for name, tensor in self.tensors.items()}


def add_to_mean(
    blended: Tensor | None, tensor: Tensor, *, share_so_far: float, share: float
) -> Tensor:
    """sum_k w_k x_k / sum_k w_k, a term at a time.

    Equal weights give the uniform model soup of Wortsman et al. 2022 (arXiv 2203.05482); a base
    and a model tuned from it give WiSE-FT (arXiv 2109.01903).
    """
    term = tensor * share
    return term if blended is None else blended.add_(term)


def add_to_arc(
    blended: Tensor | None, tensor: Tensor, *, share_so_far: float, share: float
) -> Tensor:
    """Spherical interpolation of whole tensors (Shoemake 1985).

        slerp(a, b; t) = [ sin((1 - t) θ) a + sin(t θ) b ] / sin θ,   cos θ = a·b / (|a| |b|)

    a: the blend of the earlier models; t: the weight of b over the sum of the weights so far. So
    with more than two their order matters. Where two tensors have no angle (parallel, opposite,
    zero), the straight line a + t (b - a) is taken.
    """
    if blended is None:
        return tensor.clone()
    angle = _angle(blended, tensor)
    if angle < PARALLEL or math.pi - angle < PARALLEL:
        return blended + share_so_far * (tensor - blended)
    sine = math.sin(angle)
    of_blended = math.sin((1 - share_so_far) * angle) / sine
    of_tensor = math.sin(share_so_far * angle) / sine
    return of_blended * blended + of_tensor * tensor


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two tensors as vectors, in radians; 0 where one of them is zero.

    By both chords (Kahan): accurate near 0 and π too, where the cosine is flat.
    """
    x = a.double().flatten()
    y = b.double().flatten()
    x_length, y_length = x.norm(), y.norm()
    if not x_length or not y_length:
        return 0.0
    x = x / x_length
    y = y / y_length
    difference = (x - y).norm()
    sum_of_both = (x + y).norm()
    return 2 * math.atan2(difference.item(), sum_of_both.item())


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


STEPS: dict[str, Step] = {"mean": add_to_mean, "slerp": add_to_arc}
