"""The hinge on hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from contrast_train.losses.structure import (
    Gradients,
    Lists,
    Structure,
    by_autograd,
    on_similarities,
)


@on_similarities
def triplet(q: Tensor, d: Tensor, structure: Structure, *, margin: float = 0.2) -> Gradients:
    """Hinge on own hard negatives: mean over a query's pairs of max(0, margin - s(q, p) + s(q, n)).

    L = sum_t w_t / |H(t)| sum_{n in H(t)} max(0, margin - s(q_t, p_t) + s(q_t, n)); a term without
    hard negatives adds nothing. It has no temperature. Schroff et al. 2015, with the cosine.
    """

    def value(q: Tensor, d: Tensor) -> Tensor:
        places, negatives = Lists(structure.hard, len(q)).of(structure.terms[:, 0])
        of_query, of_term = structure.terms[places].T
        gap = margin - (q[of_query] * (d[of_term] - d[negatives])).sum(1)  # (pairs,)
        counts = torch.bincount(places, minlength=len(structure.terms)).to(q.dtype)
        return (structure.weights.to(q.dtype)[places] / counts[places] * gap.clamp_min(0)).sum()

    return by_autograd(value, q, d)
