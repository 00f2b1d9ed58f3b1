"""Losses between the student's and the teacher's vectors of one batch. Needs torch alone.

All take the student's raw vectors (B, D) and the teacher's unit vectors (B, T) and compute in
float32 (float64 stays float64, for tests). None is NaN for any batch, one text included: what
needs pairs is zero there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fletching_distill.ranking import ranking


@dataclass(frozen=True)
class DistillLoss:
    """The weighted sum of the losses whose weight is not zero.

    dims: losses on similarities are averaged over these first dimensions of the student's vectors,
    each normalised anew (Kusupati et al. 2022); (): all dimensions.
    margin: of `ranking`. temperature: of the softmax of `kl`.
    """

    weights: Mapping[str, float]
    dims: Sequence[int] = ()
    margin: float = 0.015
    temperature: float = 0.05

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(the sum, each loss by name without its weight)."""
        student, teacher = at_least_float32(student), at_least_float32(teacher)
        losses = {}
        if self.weights.get("cosine"):
            losses["cosine"] = cosine(student, teacher)
        if self.weights.get("mse"):
            losses["mse"] = mse(student, teacher)
        losses |= self._of_similarities(student, teacher)
        weighted = [self.weights[name] * loss for name, loss in losses.items()]
        return torch.stack(weighted).sum(), {name: loss.detach() for name, loss in losses.items()}

    def _of_similarities(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        names = [name for name in ("similarity", "ranking", "kl") if self.weights.get(name)]
        if not names:
            return {}
        target = teacher @ teacher.T  # (B, B)
        rows, columns = torch.triu_indices(len(target), len(target), 1, device=target.device)
        order = rows
        if "ranking" in names:  # shared by all dimensions
            order = target[rows, columns].argsort(stable=True)
        by_dimension: dict[str, list[Tensor]] = {name: [] for name in names}
        for vectors in prefixes(student, self.dims):
            similarities = vectors @ vectors.T  # (B, B)
            if "similarity" in names:
                by_dimension["similarity"].append((similarities - target).square().mean())
            if "ranking" in names:
                pairs = similarities[rows, columns]
                by_dimension["ranking"].append(ranking(pairs, order, self.margin))
            if "kl" in names:
                by_dimension["kl"].append(kl_divergence(similarities, target, self.temperature))
        return {name: torch.stack(values).mean() for name, values in by_dimension.items()}


def prefixes(vectors: Tensor, dims: Sequence[int]) -> list[Tensor]:
    """Unit vectors of the first `dims` dimensions, or of all."""
    return [functional.normalize(vectors[:, :dim], dim=1) for dim in dims or [vectors.shape[1]]]


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_i 1 - cos(s_i, t_i)."""
    cosines = (functional.normalize(student, dim=1) * teacher).sum(1)  # (B,)
    return (1 - cosines).mean()


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_ij (s_ij - t_ij)^2 of the student's raw vectors: lengths count."""
    return (student - teacher).square().mean()


def kl_divergence(similarities: Tensor, target: Tensor, temperature: float) -> Tensor:
    """mean_i KL(softmax_j t_ij / T || softmax_j s_ij / T) over j != i, both (B, B).

    Hinton et al. 2015, on similarities.
    """
    batch = len(similarities)
    if batch < 2:
        return similarities.sum() * 0
    is_other = ~torch.eye(batch, dtype=torch.bool, device=similarities.device)

    def log_distribution(scores: Tensor) -> Tensor:
        """Log softmax over the other texts of the batch, (B, B-1)."""
        others = (scores / temperature)[is_other].view(batch, -1)
        return others.log_softmax(1)

    return functional.kl_div(
        log_distribution(similarities),
        log_distribution(target),
        reduction="batchmean",
        log_target=True,
    )


def at_least_float32(vectors: Tensor) -> Tensor:
    """The vectors in float32; float64 stays as it is."""
    return vectors if vectors.dtype == torch.float64 else vectors.float()
