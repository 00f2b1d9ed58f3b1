"""Terms that are added to any loss: distillation of a teacher's vectors, and a regulariser that
spreads vectors out. All are over unit vectors, whatever --similarity says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from contrast_train.losses.registry import AddedTerm, Setting, term
from contrast_train.losses.structure import Gradients, LossResult, PairStructure, by_autograd

if TYPE_CHECKING:
    from torch import Tensor

TILE = 512  # texts whose similarities are computed at a time


@term("teacher-cosine", weight="teacher_weight", requires="teacher_vectors")
def teacher_cosine(q: Tensor, d: Tensor, pairs: PairStructure) -> Gradients:
    """The direction of the teacher's vectors.

        L = 1/n sum_i [ 1 - x_i · t_i ]

    x_i: the n = Q + N vectors of the batch; t_i: the teacher's vector of the same text. Zero where
    the two have different numbers of dimensions: `teacher_similarities` is then the whole
    distillation. Zhang et al. 2024 (Jasper and Stella, arXiv 2412.19048), their first term.
    """
    import torch

    teacher = pairs.require_teacher().to(q.dtype)
    vectors = torch.cat([q, d])
    if vectors.shape != teacher.shape:
        return q.new_zeros(()), torch.zeros_like(q), torch.zeros_like(d)
    value = 1 - (vectors * teacher).sum() / len(vectors)
    gradient = teacher / -len(vectors)
    return value, gradient[: len(q)], gradient[len(q) :]


@term(
    "teacher-similarities",
    weight="teacher_weight",
    requires="teacher_vectors",
    of_prefixes=True,
)
def teacher_similarities(q: Tensor, d: Tensor, pairs: PairStructure) -> Gradients:
    """The structure of the teacher's similarities between all texts of the batch.

        L = 1 / (n (n - 1)) sum_{i != j} ( x_i · x_j - t_i · t_j )^2

    Notation of `teacher_cosine`; the teacher may have any number of dimensions. In tiles: memory
    grows with tile x n. Tung & Mori 2019 (similarity-preserving distillation), in the form of
    Zhang et al. 2024 (arXiv 2412.19048), their second term; beside a contrastive loss as in
    arXiv 2602.15547.
    """
    import torch

    teacher = pairs.require_teacher().to(q.dtype)
    vectors = torch.cat([q, d])
    count = len(vectors)
    value, gradient = q.new_zeros(()), torch.zeros_like(vectors)
    scale = 1 / max(count * (count - 1), 1)
    for start in range(0, count, TILE):
        rows = slice(start, min(start + TILE, count))
        error = vectors[rows] @ vectors.T - teacher[rows] @ teacher.T  # (t, n)
        error.diagonal(start).zero_()
        value += error.square().sum() * scale
        gradient[rows] = (error @ vectors) * (4 * scale)  # a pair is in the sum twice
    return value, gradient[: len(q)], gradient[len(q) :]


@term("spread-out", weight="spread_out", of_prefixes=True)
def spread_out(q: Tensor, d: Tensor, pairs: PairStructure) -> Gradients:
    """Global orthogonal regulariser: unrelated vectors as random points on the sphere are.

        L = 1/2 sum over X in (queries, documents) of [ M1^2 + max(0, M2 - 1/D) ]
        M1 = mean_{i != j} x_i · x_j,   M2 = mean_{i != j} (x_i · x_j)^2

    The distinct queries among themselves, and the distinct documents; D: dimensions. By the moments
    X^T X (D, D), not by n x n similarities. Zhang et al. 2017 (arXiv 1708.06320); over queries and
    over passages as in EmbeddingGemma (arXiv 2509.20354), which takes the second moment alone.
    """
    return by_autograd(lambda q, d: (_moments_excess(q) + _moments_excess(d)) / 2, q, d)


def _moments_excess(vectors: Tensor) -> Tensor:
    """M1^2 + max(0, M2 - 1/D) of the unit vectors (n, D); 0 for a single one."""
    count, dimension = vectors.shape
    pairs = count * (count - 1)
    if not pairs:
        return (vectors * 0).sum()
    squared = vectors.square().sum(1)  # (n,) 1, but for rounding
    first = (vectors.sum(0).square().sum() - squared.sum()) / pairs
    moments = vectors.T @ vectors  # (D, D)
    second = (moments.square().sum() - squared.square().sum()) / pairs
    return first.square() + (second - 1 / dimension).clamp_min(0)


def with_added_terms(
    queries: Tensor,
    documents: Tensor,
    pairs: PairStructure,
    *,
    loss: Callable[..., LossResult],
    terms: Sequence[tuple[AddedTerm, float]],
    **settings: Setting,
) -> LossResult:
    """loss + sum_k w_k term_k. terms: (term, its weight w). settings: of the loss.

    No term depends on the temperature.
    """
    total = loss(queries, documents, pairs, **settings)
    for added, weight in terms:
        part = added(queries, documents, pairs)
        total = LossResult(
            value=total.value + weight * part.value,
            queries=total.queries + weight * part.queries,
            documents=total.documents + weight * part.documents,
            log_temperature=total.log_temperature,
        )
    return total
