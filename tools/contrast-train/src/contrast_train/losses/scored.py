"""Losses that learn from scores: a teacher's order of a row's documents, or graded labels of pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrast_train.losses.infonce import tiled_infonce
from contrast_train.losses.structure import (
    Gradients,
    Lists,
    Structure,
    by_autograd,
    on_similarities,
)


@on_similarities
def kl(
    q: Tensor,
    d: Tensor,
    structure: Structure,
    *,
    temperature: float = 0.05,
    teacher_temperature: float = 1.0,
) -> Gradients:
    """Listwise distillation: each row's own scored documents are one distribution, never the batch.

        L = 1/R sum_r sum_{i in r} P_r(i) [ log P_r(i) - log S_r(i) ]
        P_r = softmax_{i in r}(score_i / teacher_temperature),  S_r = softmax_{i in r}(s(q_r, d_i) / temperature)

    R: the rows of the batch that have scores. Cao et al. 2007 (ListNet); for retrievers e.g. Ren et al. 2021.
    """
    return _kl(q, d, structure, temperature, teacher_temperature)


def _kl(
    q: Tensor, d: Tensor, structure: Structure, temperature: float, teacher_temperature: float
) -> Gradients:
    def value(q: Tensor, d: Tensor) -> Tensor:
        of_row, of_query, of_document = structure.lists.T
        rows, of_row = of_row.unique(return_inverse=True)
        similarity = (q[of_query] * d[of_document]).sum(1)  # (G,)
        student = log_softmax(similarity / temperature, of_row, len(rows))
        teacher = log_softmax(structure.scores.to(q.dtype) / teacher_temperature, of_row, len(rows))
        return (teacher.exp() * (teacher - student)).sum() / max(len(rows), 1)

    return by_autograd(value, q, d)


def log_softmax(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """log softmax of `values` (G,) within each group (G,) of 0 … groups-1."""
    top = values.new_full((groups,), -torch.inf).scatter_reduce(0, group, values.detach(), "amax")
    values = values - top[group]
    total = values.new_zeros(groups).index_add(0, group, values.exp())
    return values - total.log()[group]


@on_similarities
def margin_mse(
    q: Tensor,
    d: Tensor,
    structure: Structure,
    *,
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Gradients:
    """The student's margin between a positive and a hard negative of its row shall be the teacher's.

        L = 1/R sum_r 1/|r| sum_{(p, n) in r} [ (s(q, p) - s(q, n)) / temperature - (y_p - y_n) / teacher_temperature ]^2

    Over the pairs of a scored positive and a scored hard negative; a row without such a pair adds nothing.
    Hofstätter et al. 2020.
    """

    def value(q: Tensor, d: Tensor) -> Tensor:
        first, second = margins(structure, len(d))
        of_row, of_query, of_document = structure.lists.T
        similarity = (q[of_query] * d[of_document]).sum(1) / temperature  # (G,)
        gap = similarity - structure.scores.to(q.dtype) / teacher_temperature
        rows, pair_row = of_row[first].unique(return_inverse=True)
        share = 1 / torch.bincount(pair_row, minlength=len(rows)).to(q.dtype)[pair_row]
        return (share * (gap[first] - gap[second]).square()).sum() / max(len(rows), 1)

    return by_autograd(value, q, d)


def margins(structure: Structure, documents: int) -> tuple[Tensor, Tensor]:
    """Places in `lists` of a positive and of a hard negative of the same row, for every such pair."""
    row, query, document = structure.lists.T
    terms = structure.terms[:, 0] * documents + structure.terms[:, 1]
    positive = torch.isin(query * documents + document, terms)
    places = torch.arange(len(row), device=row.device)
    negatives = Lists(
        torch.stack([row[~positive], places[~positive]], 1), int(row.max()) + 1 if len(row) else 0
    )
    which, second = negatives.of(row[positive])
    return places[positive][which], second


@on_similarities
def cosent(q: Tensor, d: Tensor, structure: Structure, *, temperature: float = 0.05) -> Gradients:
    """Graded pairs: of any two pairs of the batch, the one with the higher label shall be the more similar.

        L = log( 1 + sum_{(i, j): y_i > y_j} exp((s_j - s_i) / temperature) )

    Over all scored pairs of the batch. Sorted by label the inner sums are running ones, so G pairs cost
    G log G steps and not G x G numbers. Su 2022 (CoSENT).
    """

    def value(q: Tensor, d: Tensor) -> Tensor:
        _, of_query, of_document = structure.lists.T
        labels, order = structure.scores.to(q.dtype).sort(stable=True)
        similarity = (q[of_query[order]] * d[of_document[order]]).sum(1) / temperature  # (G,)
        lower = torch.searchsorted(labels, labels)  # so many pairs have a lower label
        ranked = lower > 0
        sums = similarity.logcumsumexp(0)[(lower[ranked] - 1)] - similarity[ranked]
        return torch.cat([sums.new_zeros(1), sums]).logsumexp(0)

    return by_autograd(value, q, d)


@on_similarities
def infonce_kl(
    q: Tensor,
    d: Tensor,
    structure: Structure,
    *,
    temperature: float = 0.05,
    teacher_temperature: float = 1.0,
    kl_weight: float = 1.0,
    **settings: Any,
) -> Gradients:
    """InfoNCE over the batch plus kl_weight times the KL to the teacher over each row's own list.

    settings: those of `infonce`. The sum that Xiao et al. 2023 (C-Pack) train rerankers' scores with.
    """
    contrast = tiled_infonce(q, d, structure, temperature=temperature, **settings)
    teacher = _kl(q, d, structure, temperature, teacher_temperature)
    return tuple(ours + kl_weight * theirs for ours, theirs in zip(contrast, teacher))  # type: ignore[return-value]
