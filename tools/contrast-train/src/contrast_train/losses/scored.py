"""Losses that learn from scores: a teacher's ranking of a row's documents, or graded labels
of pairs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from contrast_train.losses.infonce import infonce
from contrast_train.losses.registry import Setting, loss
from contrast_train.losses.requirements import ScoredContrast, ScoredLists
from contrast_train.losses.structure import Gradients, PairStructure, RaggedTensor, by_autograd

if TYPE_CHECKING:
    from torch import Tensor


@loss(
    "kl",
    needs=ScoredLists(2),
    options=("teacher_temperature",),
    positives="all",
    default_for="teacher",
)
def kl(
    q: Tensor,
    d: Tensor,
    pairs: PairStructure,
    *,
    temperature: float = 0.05,
    teacher_temperature: float = 1.0,
) -> Gradients:
    """Listwise distillation: each row's own scored documents are one distribution, never the
    batch.

        L = 1/R sum_r sum_{i in r} P_r(i) [ log P_r(i) - log S_r(i) ]
        P_r = softmax_{i in r}(score_i / teacher_temperature)
        S_r = softmax_{i in r}(s(q_r, d_i) / temperature)

    R: the rows of the batch that have scores. Cao et al. 2007 (ListNet); for retrievers e.g.
    Ren et al. 2021.
    """
    scored_pairs, scores = pairs.require_scores()

    def _value(q: Tensor, d: Tensor) -> Tensor:
        row, query, document = scored_pairs.T
        rows, row = row.unique(return_inverse=True)
        similarity = (q[query] * d[document]).sum(1)  # (G,)
        student = log_softmax(similarity / temperature, row, groups=len(rows))
        teacher = log_softmax(scores.to(q.dtype) / teacher_temperature, row, groups=len(rows))
        divergence = teacher.exp() * (teacher - student)
        return divergence.sum() / max(len(rows), 1)

    return by_autograd(_value, q, d)


def log_softmax(values: Tensor, group: Tensor, *, groups: int) -> Tensor:
    """log softmax of `values` (G,) within each group (G,) of 0 … groups-1."""
    lowest = values.new_full((groups,), -math.inf)
    top = lowest.scatter_reduce(0, group, values.detach(), "amax")
    shifted = values - top[group]
    total = values.new_zeros(groups).index_add(0, group, shifted.exp())
    return shifted - total.log()[group]


@loss(
    "margin-mse",
    needs=ScoredContrast(),
    options=("teacher_temperature",),
    positives="all",
    temperature=1.0,
)
def margin_mse(
    q: Tensor,
    d: Tensor,
    pairs: PairStructure,
    *,
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Gradients:
    """Regression of the student's margin between a positive and a hard negative on the
    teacher's.

        L = 1/R sum_r 1/|r| sum_{(p, n) in r}
              [ (s(q, p) - s(q, n)) / temperature - (y_p - y_n) / teacher_temperature ]^2

    Over the pairs of a scored positive and a scored hard negative of a row; a row without
    such a pair adds nothing. Hofstätter et al. 2020.
    """
    scored_pairs, scores = pairs.require_scores()

    def _value(q: Tensor, d: Tensor) -> Tensor:
        positive, negative = margins(pairs, documents=len(d))
        row, query, document = scored_pairs.T
        similarity = (q[query] * d[document]).sum(1) / temperature  # (G,)
        error = similarity - scores.to(q.dtype) / teacher_temperature
        rows, margin_row = row[positive].unique(return_inverse=True)
        margins_of_row = margin_row.bincount(minlength=len(rows)).to(q.dtype)
        weight = 1 / margins_of_row[margin_row]
        squared = (error[positive] - error[negative]).square()
        total: Tensor = (weight * squared).sum()
        return total / max(len(rows), 1)

    return by_autograd(_value, q, d)


def margins(pairs: PairStructure, *, documents: int) -> tuple[Tensor, Tensor]:
    """Positions in `scored_pairs` of a positive and of a hard negative of its row, for every
    such pair.
    """
    import torch

    scored_pairs, _ = pairs.require_scores()
    row, query, document = scored_pairs.T
    # A pair (query, document) as one number, to test which scored pairs are positive ones.
    positive_keys = pairs.positive_pairs[:, 0] * documents + pairs.positive_pairs[:, 1]
    is_positive = torch.isin(query * documents + document, positive_keys)
    positions = torch.arange(len(row), device=row.device)
    rows = int(row.max()) + 1 if len(row) else 0
    negatives_of_row = RaggedTensor.from_pairs(
        torch.stack([row[~is_positive], positions[~is_positive]], 1), rows=rows
    )
    negatives = negatives_of_row.take(row[is_positive])
    return positions[is_positive][negatives.owners], negatives.values


@loss("cosent", needs=ScoredLists(1), positives="all", default_for="labels")
def cosent(q: Tensor, d: Tensor, pairs: PairStructure, *, temperature: float = 0.05) -> Gradients:
    """Graded pairs: of any two pairs of the batch, the one with the higher label is to be
    more similar.

        L = log( 1 + sum_{(i, j): y_i > y_j} exp((s_j - s_i) / temperature) )

    Over all scored pairs of the batch. Sorted by label, the inner sums are running ones: G
    pairs cost G log G steps and not G x G numbers. Su 2022 (CoSENT).
    """
    scored_pairs, scores = pairs.require_scores()

    def _value(q: Tensor, d: Tensor) -> Tensor:
        _, query, document = scored_pairs.T
        similarity = (q[query] * d[document]).sum(1)  # (G,)
        return rank_by_labels(similarity / temperature, scores.to(q.dtype))

    return by_autograd(_value, q, d)


@loss("angle", needs=ScoredLists(1), positives="all")
def angle(q: Tensor, d: Tensor, pairs: PairStructure, *, temperature: float = 0.05) -> Gradients:
    """AnglE: graded pairs as in CoSENT, by the angle between complex vectors.

        L = log( 1 + sum_{(i, j): y_i > y_j} exp((a_j - a_i) / temperature) )
        a = | sum_k Re(z_k conj(w_k)) + Im(z_k conj(w_k)) |

    z_k = q_k + i q_{k + D/2}, and w likewise of d. The real part is the cosine, whose gradient
    vanishes near its extremes; that of the imaginary part does not. Li & Li 2024
    (arXiv 2309.12871), their term of the angle, in the form of their program.
    """
    scored_pairs, scores = pairs.require_scores()

    def _value(q: Tensor, d: Tensor) -> Tensor:
        _, query, document = scored_pairs.T
        similarity = angle_similarity(q[query], d[document])  # (G,)
        return rank_by_labels(similarity / temperature, scores.to(q.dtype))

    return by_autograd(_value, q, d)


def angle_similarity(left: Tensor, right: Tensor) -> Tensor:
    """The similarity `a` of `angle` for each pair of rows (n, D): (n,). An odd D gets a 0."""
    from torch.nn.functional import pad

    left, right = (pad(vectors, (0, vectors.shape[1] % 2)) for vectors in (left, right))
    (a, b), (c, d) = left.chunk(2, dim=1), right.chunk(2, dim=1)
    real, imaginary = a * c + b * d, b * c - a * d
    return (real + imaginary).sum(1).abs()


def rank_by_labels(similarity: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum_{(i, j): y_i > y_j} exp(s_j - s_i)) of similarities s (G,) with labels y (G,)."""
    import torch

    labels, order = labels.sort(stable=True)
    similarity = similarity[order]  # by rising label
    lower = torch.searchsorted(labels, labels)  # (G,) how many pairs have a lower label
    has_lower = lower > 0
    # log sum_{j: y_j < y_i} exp(s_j - s_i), for every pair i with a lower one
    inner = similarity.logcumsumexp(0)[lower[has_lower] - 1] - similarity[has_lower]
    one = inner.new_zeros(1)  # exp(0)
    return torch.cat([one, inner]).logsumexp(0)


@loss(
    "infonce+kl",
    needs=ScoredLists(2, optional=True),
    options=(*infonce.options, "teacher_temperature", "kl_weight"),
    data_options=infonce.data_options,
)
def infonce_kl(
    q: Tensor,
    d: Tensor,
    pairs: PairStructure,
    *,
    temperature: float = 0.05,
    teacher_temperature: float = 1.0,
    kl_weight: float = 1.0,
    **settings: Setting,
) -> Gradients:
    """InfoNCE over the batch plus kl_weight times the KL to the teacher over each row's own
    list.

    settings: those of `infonce`. A row without scores counts in InfoNCE alone. The sum that
    Xiao et al. 2023 (C-Pack) train with a reranker's scores.
    """
    contrast = infonce.compute(q, d, pairs, temperature=temperature, **settings)
    distillation = kl.compute(
        q, d, pairs, temperature=temperature, teacher_temperature=teacher_temperature
    )
    value, query_gradient, document_gradient = (
        ours + kl_weight * theirs for ours, theirs in zip(contrast, distillation)
    )
    return value, query_gradient, document_gradient
