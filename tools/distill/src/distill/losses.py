"""Losses between the student's and the teacher's vectors of one batch. Needs torch alone.

All of them take the student's raw vectors (B, D) and the teacher's unit vectors (B, T) and compute in float32
(float64 stays float64, for tests). None is NaN for any batch, one text included: what needs pairs is zero there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from distill.ranking import ranking

OF_VECTORS = ("cosine", "mse")  # compare vectors, so that both must have one dimension


@dataclass(frozen=True)
class Mixture:
    """What is minimised: the weighted sum of the losses whose weight is not zero.

    dims: the losses on similarities are means over these first dimensions of the student's vectors, each
    normalised anew; none: all dimensions. Kusupati et al. 2022. temperature: of the softmax of `kl`.
    """

    weights: dict[str, float]
    dims: tuple[int, ...] = ()
    margin: float = 0.015
    temperature: float = 0.05

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(the sum, each loss by name without its weight)."""
        student, teacher = exact(student), exact(teacher)
        parts = {
            name: OF_PAIRS[name](student, teacher) for name in OF_VECTORS if self.weights.get(name)
        }
        parts |= self._of_similarities(student, teacher)
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}

    def _of_similarities(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        wanted = [name for name in ("similarity", "ranking", "kl") if self.weights.get(name)]
        if not wanted:
            return {}
        aim = teacher @ teacher.T  # (B, B)
        rows, columns = torch.triu_indices(len(aim), len(aim), 1, device=aim.device)
        order = (
            aim[rows, columns].argsort(stable=True) if "ranking" in wanted else rows
        )  # shared by all dimensions
        found: dict[str, list[Tensor]] = {name: [] for name in wanted}
        for unit in prefixes(student, self.dims):
            own = unit @ unit.T  # (B, B)
            if "similarity" in found:
                found["similarity"].append((own - aim).square().mean())
            if "ranking" in found:
                found["ranking"].append(ranking(own[rows, columns], order, self.margin))
            if "kl" in found:
                found["kl"].append(divergence(own, aim, self.temperature))
        return {name: torch.stack(values).mean() for name, values in found.items()}


def prefixes(vectors: Tensor, dims: Sequence[int]) -> list[Tensor]:
    """Unit vectors of the first `dims` numbers, or of all."""
    return [functional.normalize(vectors[:, :dim], dim=1) for dim in dims or [vectors.shape[1]]]


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_i 1 - cos(s_i, t_i)."""
    return (1 - (functional.normalize(student, dim=1) * teacher).sum(1)).mean()


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_ij (s_ij - t_ij)^2 of the student's raw vectors: lengths count."""
    return (student - teacher).square().mean()


OF_PAIRS = {"cosine": cosine, "mse": mse}


def divergence(own: Tensor, aim: Tensor, temperature: float) -> Tensor:
    """mean_i KL(softmax_j aim_ij / T || softmax_j own_ij / T) over j != i. Hinton et al. 2015, on similarities."""
    if len(own) < 2:
        return own.sum() * 0
    itself = torch.eye(len(own), dtype=torch.bool, device=own.device)
    others = ~itself

    def spread(scores: Tensor) -> Tensor:
        return (scores / temperature)[others].view(len(own), -1).log_softmax(1)  # (B, B-1)

    return functional.kl_div(spread(own), spread(aim), reduction="batchmean", log_target=True)


def exact(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()
