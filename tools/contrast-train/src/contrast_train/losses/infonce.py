"""InfoNCE, exact and tiled, with an analytic gradient; SimCSE is the same on two views of a
text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from contrast_train.losses.registry import Setting, loss
from contrast_train.losses.requirements import PositivePairs, Texts
from contrast_train.losses.structure import Gradients, PairStructure, RaggedTensor

if TYPE_CHECKING:
    from torch import Tensor

GUIDE_OPTIONS = ("guide_margin", "guide_relative")


@dataclass(frozen=True, kw_only=True)
class ContrastSettings:
    """Which documents are negatives of a query.

    candidates: all documents of the batch; own hard negatives and everyone's positives;
    everyone's hard negatives; own hard negatives alone. query_negatives: also the other
    queries, except those that share the positive (Li et al. 2023, GTE). symmetric: the mean
    of the loss and the same with queries and documents exchanged (Radford et al. 2021).
    guide_margin: with guide vectors, leave out candidates nearer by the guide than the
    positive's similarity - guide_margin, or x (1 - guide_margin) if guide_relative (Solatorio
    2024). tile: anchors whose scores are computed at a time.
    """

    symmetric: bool = False
    candidates: Literal["all", "positives", "hard", "own"] = "all"
    query_negatives: bool = False
    guide_margin: float = 0.0
    guide_relative: bool = False
    tile: int = 512


@loss(
    "infonce",
    needs=PositivePairs(),
    options=("symmetric", "candidates", "query_negatives", *GUIDE_OPTIONS),
    data_options=("guide", "min_pos_score"),
    default_for="pairs",
)
def infonce(
    q: Tensor, d: Tensor, pairs: PairStructure, *, temperature: float = 0.05, **settings: Setting
) -> Gradients:
    """InfoNCE, exact, in tiles: memory grows with tile x N, not with Q x N.

        L = sum_t w_t [ log sum_{d in C(t)} exp(s(q_t, d) / T) - s(q_t, p_t) / T ],  T = temperature

    C(t) is p_t and the other documents of the batch, each distinct text once, without those
    known to answer q_t; settings, the fields of `ContrastSettings`, change it. van den Oord
    et al. 2018.
    """
    import torch

    # The dataclass refuses names that it does not know.
    chosen = ContrastSettings(**settings)  # type: ignore[arg-type]
    query_gradient, document_gradient = torch.zeros_like(q), torch.zeros_like(d)
    weights = pairs.weights.to(q.dtype) * (0.5 if chosen.symmetric else 1.0)
    candidates, candidate_gradient = d, document_gradient
    if chosen.query_negatives:
        candidates = torch.cat([d, q])
        candidate_gradient = torch.zeros_like(candidates)
    value = _contrast(
        Direction(
            anchors=q,
            candidates=candidates,
            pairs=pairs.positive_pairs,
            weights=weights,
            masks=_document_masks(pairs, chosen, queries=len(q), documents=len(d)),
            anchor_gradient=query_gradient,
            candidate_gradient=candidate_gradient,
        ),
        temperature,
        chosen.tile,
    )
    if chosen.query_negatives:
        document_gradient += candidate_gradient[: len(d)]
        query_gradient += candidate_gradient[len(d) :]
    if chosen.symmetric:
        value += _contrast(
            Direction(
                anchors=d,
                candidates=q,
                pairs=pairs.positive_pairs.flip(1),
                weights=weights,
                masks=_query_masks(pairs, chosen, documents=len(d)),
                anchor_gradient=document_gradient,
                candidate_gradient=query_gradient,
            ),
            temperature,
            chosen.tile,
        )
    return value, query_gradient, document_gradient


@loss(
    "simcse",
    needs=Texts(),
    options=("symmetric", "query_negatives"),
    default_for="texts",
)
def simcse(
    q: Tensor, d: Tensor, pairs: PairStructure, *, temperature: float = 0.05, **settings: Setting
) -> Gradients:
    """InfoNCE on two views of each text, which differ by their dropout masks alone: query i,
    document i.

    The vectors must come from two passes; a text that was encoded once is its own copy. Gao
    et al. 2021.
    """
    return infonce.compute(q, d, pairs, temperature=temperature, **settings)


@dataclass(frozen=True, kw_only=True, eq=False)
class GuideMask:
    """Leaves out candidates that a guide model finds as near to the anchor as its positive.

    anchors (A, E), candidates (C, E): the guide's unit vectors.
    """

    anchors: Tensor
    candidates: Tensor
    margin: float
    relative: bool

    def near(self, anchors: Tensor, positives: Tensor) -> Tensor:
        """bool (t, C): is the candidate that near to the anchor?"""
        similarity = self.anchors[anchors] @ self.candidates.T  # (t, C)
        of_positive = similarity.gather(1, positives[:, None])
        slack = self.margin * of_positive.abs() if self.relative else self.margin
        return similarity > of_positive - slack


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateMasks:
    """Which candidates are negatives of an anchor, for anchors (A) and candidates (C) of one
    direction.

    masked: of each anchor, the candidates that answer it. hard_negatives: of each anchor, its
    own negatives; shared bool (C,): candidates of every anchor; both None where all
    candidates are.
    """

    masked: RaggedTensor
    hard_negatives: RaggedTensor | None = None
    shared: Tensor | None = None
    guide: GuideMask | None = None

    def apply(self, scores: Tensor, anchors: Tensor, positives: Tensor) -> None:
        """Set scores (t, C) of what is no negative to -inf, in place; the caller restores
        `positives` (t,).
        """
        if self.hard_negatives is not None and self.shared is not None:
            is_candidate = self.shared.repeat(len(anchors), 1)
            opened = self.hard_negatives.take(anchors)
            is_candidate[opened.owners, opened.values] = True
            scores.masked_fill_(~is_candidate, -math.inf)
        if self.guide is not None:
            scores.masked_fill_(self.guide.near(anchors, positives), -math.inf)
        answers = self.masked.take(anchors)
        scores[answers.owners, answers.values] = -math.inf


def _document_masks(
    pairs: PairStructure, settings: ContrastSettings, *, queries: int, documents: int
) -> CandidateMasks:
    """For queries as anchors; the other queries follow the documents where they are negatives
    too.
    """
    import torch

    masked = pairs.masked_pairs
    guide = _guide_mask(pairs, settings)
    if settings.query_negatives:
        masked = torch.cat([masked, _queries_sharing_a_positive(pairs, documents)])
        if guide is not None:
            guide = GuideMask(
                anchors=guide.anchors,
                candidates=torch.cat([guide.candidates, guide.anchors]),
                margin=guide.margin,
                relative=guide.relative,
            )
    by_query = RaggedTensor.from_pairs(masked, rows=queries)
    if settings.candidates == "all":
        return CandidateMasks(masked=by_query, guide=guide)
    width = documents + queries if settings.query_negatives else documents
    shared = torch.arange(width, device=masked.device) >= documents
    if settings.candidates == "positives":
        shared[pairs.positive_pairs[:, 1]] = True
    elif settings.candidates == "hard":
        shared[pairs.hard_negative_pairs[:, 1]] = True
    hard_negatives = RaggedTensor.from_pairs(pairs.hard_negative_pairs, rows=queries)
    return CandidateMasks(
        masked=by_query, hard_negatives=hard_negatives, shared=shared, guide=guide
    )


def _query_masks(
    pairs: PairStructure, settings: ContrastSettings, *, documents: int
) -> CandidateMasks:
    """For documents as anchors and queries as candidates: every query but those that a
    document answers.
    """
    guide = _guide_mask(pairs, settings)
    if guide is not None:
        guide = GuideMask(
            anchors=guide.candidates,
            candidates=guide.anchors,
            margin=guide.margin,
            relative=guide.relative,
        )
    by_document = RaggedTensor.from_pairs(pairs.masked_pairs.flip(1), rows=documents)
    return CandidateMasks(masked=by_document, guide=guide)


def _guide_mask(pairs: PairStructure, settings: ContrastSettings) -> GuideMask | None:
    if pairs.guide is None:
        return None
    queries, documents = pairs.guide
    return GuideMask(
        anchors=queries,
        candidates=documents,
        margin=settings.guide_margin,
        relative=settings.guide_relative,
    )


def _queries_sharing_a_positive(pairs: PairStructure, documents: int) -> Tensor:
    """(query, documents + other query), where a positive of the first answers the other;
    itself included.
    """
    import torch

    queries, positives = pairs.positive_pairs.T
    queries_by_document = RaggedTensor.from_pairs(pairs.masked_pairs.flip(1), rows=documents)
    others = queries_by_document.take(positives)
    sharing = torch.stack([queries[others.owners], documents + others.values], 1)
    distinct = queries.unique()
    return torch.cat([sharing, torch.stack([distinct, documents + distinct], 1)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """Anchors (A, D) that each rank candidates (C, D).

    pairs (T, 2): an anchor and its positive, with weights (T,). The gradients, of the shapes
    of anchors and candidates, are added to in place.
    """

    anchors: Tensor
    candidates: Tensor
    pairs: Tensor
    weights: Tensor
    masks: CandidateMasks
    anchor_gradient: Tensor
    candidate_gradient: Tensor


def _contrast(direction: Direction, temperature: float, tile: int) -> Tensor:
    """The loss of one direction, its gradient added to both sides.

    The gradient of one row of scores is weight / temperature * (softmax - one-hot). With the
    positive first among three candidates and softmax (0.7, 0.2, 0.1), the row becomes (-0.3,
    0.2, 0.1): the positive's own entry, softmax - 1, is minus the sum of the others, so that
    no digits are lost where it is nearly 0. The block (t, C) is written over in place and
    never scaled: what is scaled is the (t, D) side, because passes over the block are what
    costs besides the matrix products.
    """
    import torch

    candidates, pairs = direction.candidates, direction.pairs
    loss = direction.anchors.new_zeros(())
    block = direction.anchors.new_empty(min(tile, len(pairs)), len(candidates))
    for start in range(0, len(pairs), tile):
        anchors, positives = pairs[start : start + tile].T
        weight = direction.weights[start : start + tile, None]
        column = positives[:, None]
        scaled = direction.anchors[anchors].div_(temperature)  # (t, D)
        scores = torch.mm(scaled, candidates.T, out=block[: len(anchors)])  # (t, C)
        target = scores.gather(1, column)
        direction.masks.apply(scores, anchors, positives)
        scores.scatter_(1, column, -math.inf)
        top = torch.maximum(scores.amax(1, keepdim=True), target)
        negatives = (
            scores.sub_(top).exp_().sum(1, keepdim=True)
        )  # scores hold exp(s - top) from here
        total = negatives + (target - top).exp()
        loss += (weight * (total.log() + top - target)).sum()
        scores.scatter_(1, column, -negatives)
        share = weight / total
        direction.anchor_gradient.index_add_(
            0, anchors, (scores @ candidates).mul_(share / temperature)
        )
        direction.candidate_gradient.addmm_(scores.T, scaled.mul_(share))
    return loss
