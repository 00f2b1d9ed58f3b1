"""The hinge on hard negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrast_train.losses.registry import loss
from contrast_train.losses.requirements import HardNegatives
from contrast_train.losses.structure import Gradients, PairStructure, RaggedTensor, by_autograd

if TYPE_CHECKING:
    from torch import Tensor


@loss(
    "triplet",
    needs=HardNegatives(),
    options=("triplet_margin",),
    data_options=("min_pos_score",),
    described=("triplet_margin",),
    temperature=None,
)
def triplet(
    q: Tensor, d: Tensor, pairs: PairStructure, *, triplet_margin: float = 0.2
) -> Gradients:
    """Hinge on own hard negatives.

        L = sum_t w_t / |H(t)| sum_{n in H(t)} max(0, triplet_margin - s(q_t, p_t) + s(q_t, n))

    H(t): the hard negatives of query q_t; a positive pair t without any adds nothing. Schroff
    et al. 2015, with the cosine.
    """

    def _value(q: Tensor, d: Tensor) -> Tensor:
        hard_negatives = RaggedTensor.from_pairs(pairs.hard_negative_pairs, rows=len(q))
        negatives = hard_negatives.take(pairs.positive_pairs[:, 0])  # one list for each pair t
        pair = negatives.owners
        query, positive = pairs.positive_pairs[pair].T
        violation = triplet_margin - (q[query] * (d[positive] - d[negatives.values])).sum(1)
        weights = pairs.weights.to(q.dtype) / negatives.lengths.to(q.dtype)
        return (weights[pair] * violation.clamp_min(0)).sum()

    return by_autograd(_value, q, d)
