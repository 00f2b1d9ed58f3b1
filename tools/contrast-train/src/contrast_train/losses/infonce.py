"""InfoNCE, exact and tiled, with an analytic gradient; SimCSE is the same on two views of a
text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from contrast_train.losses.candidates import (
    CandidateMasks,
    ContrastSettings,
    HardnessWeighting,
    document_masks,
    query_masks,
)
from contrast_train.losses.registry import Setting, loss
from contrast_train.losses.requirements import PositivePairs, Texts
from contrast_train.losses.structure import Gradients, PairStructure, RaggedTensor

if TYPE_CHECKING:
    from torch import Tensor

GUIDE_OPTIONS = ("guide_margin", "guide_relative")
DIRECTION_OPTIONS = ("directions", "symmetric", "query_negatives", "softmax")
HARDNESS_OPTIONS = ("hardness_weight", "hardness_of")


@loss(
    "infonce",
    needs=PositivePairs(),
    options=(*DIRECTION_OPTIONS, "candidates", *HARDNESS_OPTIONS, *GUIDE_OPTIONS),
    data_options=("guide", "min_pos_score"),
    default_for="pairs",
)
def infonce(
    q: Tensor, d: Tensor, pairs: PairStructure, *, temperature: float = 0.05, **settings: Setting
) -> Gradients:
    """InfoNCE, exact, in tiles: memory grows with tile x N, not with Q x N.

        L = sum_t w_t [ log Z_t - s(q_t, p_t) / T ],  T = temperature
        Z_t = sum_{d in C(t)} exp(s(q_t, d) / T)

    C(t) is p_t and the other documents of the batch, each distinct text once, without those
    known to answer q_t; settings, the fields of `ContrastSettings`, change it. van den Oord
    et al. 2018. With document anchors too, softmax "per-direction" takes the mean of this and the
    same with queries and documents exchanged (Radford et al. 2021), and "joint" has one sum:

        Z_t = sum_d e^{s(q_t, d)/T} + sum_q e^{s(q, p_t)/T} + sum_q e^{s(q_t, q)/T}
              + sum_d e^{s(d, p_t)/T}

    of those that `directions` name, p_t being in each of the first two: with all four, the loss of
    Li et al. 2023 (GTE, arXiv 2308.03281). The hardness weight a adds the constant a s(q_t, d) to
    the exponents of negative documents (Lan et al. 2025, arXiv 2503.04812; of hard negatives alone:
    EmbeddingGemma, arXiv 2509.20354).
    """
    import torch

    # The dataclass refuses names that it does not know.
    chosen = ContrastSettings(**settings)  # type: ignore[arg-type]
    batch = _Batch(
        queries=q,
        documents=d,
        query_gradient=torch.zeros_like(q),
        document_gradient=torch.zeros_like(d),
    )
    anchors = [_query_block(batch, pairs, chosen)]
    if chosen.has_document_anchors:
        anchors.append(_document_block(batch, pairs, chosen))
    softmaxes = [anchors] if chosen.softmax == "joint" else [[block] for block in anchors]
    weights = pairs.weights.to(q.dtype) / len(softmaxes)
    value = q.new_zeros(())
    for blocks in softmaxes:
        terms = SoftmaxTerms(pairs=pairs.positive_pairs, weights=weights, temperature=temperature)
        value += _contrast(blocks, terms, chosen.tile)
    for block in anchors:
        block.add_gradients()
    return value, batch.query_gradient, batch.document_gradient


@loss(
    "simcse",
    needs=Texts(),
    options=DIRECTION_OPTIONS,
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


@dataclass(frozen=True, eq=False)
class _Batch:
    """Queries (Q, D) and documents (N, D), and the gradients for them, which are added to."""

    queries: Tensor
    documents: Tensor
    query_gradient: Tensor
    document_gradient: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftmaxTerms:
    """The terms of one softmax: pairs (T, 2) of a query and its positive, with weights (T,)."""

    pairs: Tensor
    weights: Tensor
    temperature: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreBlock:
    """Anchors (A, D) of one side that each rank candidates (C, D).

    side: the column of pairs that holds the anchors. Candidates are the other side, whose first
    rows hold the positives, then the anchors' own side where it is one of the directions.
    holds_positive: is the positive a candidate here, or in another block of the softmax alone?
    targets: the gradients, of the shapes of what the candidates are made of.
    """

    side: Literal[0, 1]
    anchors: Tensor
    candidates: Tensor
    masks: CandidateMasks
    anchor_gradient: Tensor
    candidate_gradient: Tensor
    targets: tuple[Tensor, ...]
    holds_positive: bool = True
    hardness: HardnessWeighting | None = None

    def score(self, terms: SoftmaxTerms, rows: slice, out: Tensor) -> ScoredTile:
        """The scores of one tile of terms, -inf for all but negatives. out: (tile, C)."""
        import torch

        anchors, positives = terms.pairs[rows, self.side], terms.pairs[rows, 1 - self.side]
        column = positives[:, None]
        scaled = self.anchors[anchors].div_(terms.temperature)  # (t, D)
        scores = torch.mm(scaled, self.candidates.T, out=out[: len(anchors)])  # (t, C)
        target = scores.gather(1, column)
        if self.hardness is not None:
            self.hardness.apply(scores, anchors, terms.temperature)
        self.masks.apply(scores, anchors, positives)
        scores.scatter_(1, column, -math.inf)
        return ScoredTile(
            anchors=anchors, column=column, scaled=scaled, scores=scores, target=target
        )

    def add_gradients(self) -> None:
        """Add the candidates' gradient to those of the texts that they are."""
        start = 0
        for target in self.targets:
            target += self.candidate_gradient[start : start + len(target)]
            start += len(target)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredTile:
    """Scores (t, C) of one tile of a block, and what they were computed from.

    scaled (t, D): anchors over the temperature. target (t, 1): the positive's score, whose column
    (t, 1) of `scores` is -inf.
    """

    anchors: Tensor
    column: Tensor
    scaled: Tensor
    scores: Tensor
    target: Tensor


def _query_block(batch: _Batch, pairs: PairStructure, settings: ContrastSettings) -> ScoreBlock:
    """Queries as anchors."""
    import torch

    queries, documents = len(batch.queries), len(batch.documents)
    with_queries = "query-query" in settings.ways
    hardness = None
    if settings.hardness_weight:
        hardness = HardnessWeighting(
            weight=settings.hardness_weight,
            of=settings.hardness_of,
            hard_negatives=RaggedTensor.from_pairs(pairs.hard_negative_pairs, rows=queries),
            documents=documents,
        )
    sources = [batch.documents, batch.queries] if with_queries else [batch.documents]
    candidates = torch.cat(sources) if with_queries else batch.documents
    targets = (batch.document_gradient, batch.query_gradient)[: len(sources)]
    return ScoreBlock(
        side=0,
        anchors=batch.queries,
        candidates=candidates,
        masks=query_masks(pairs, settings, queries=queries, documents=documents),
        anchor_gradient=batch.query_gradient,
        candidate_gradient=torch.zeros_like(candidates),
        targets=targets,
        hardness=hardness,
    )


def _document_block(batch: _Batch, pairs: PairStructure, settings: ContrastSettings) -> ScoreBlock:
    """Positives as anchors."""
    import torch

    queries, documents = len(batch.queries), len(batch.documents)
    with_documents = "doc-doc" in settings.ways
    sources = [batch.queries, batch.documents] if with_documents else [batch.queries]
    candidates = torch.cat(sources) if with_documents else batch.queries
    return ScoreBlock(
        side=1,
        anchors=batch.documents,
        candidates=candidates,
        masks=document_masks(pairs, settings, queries=queries, documents=documents),
        anchor_gradient=batch.document_gradient,
        candidate_gradient=torch.zeros_like(candidates),
        targets=(batch.query_gradient, batch.document_gradient)[: len(sources)],
        holds_positive="doc-query" in settings.ways,
    )


def _contrast(blocks: Sequence[ScoreBlock], terms: SoftmaxTerms, tile: int) -> Tensor:
    """The loss of one softmax over the scores of all blocks, its gradient added to their sides.

    The gradient of one row of scores is weight / temperature * (softmax - one-hot). With the
    positive first among three candidates and softmax (0.7, 0.2, 0.1), the row becomes (-0.3,
    0.2, 0.1): the positive's own entry, softmax - 1, is minus the sum of the others, so that
    no digits are lost where it is nearly 0. The block (t, C) is written over in place and
    never scaled: what is scaled is the (t, D) side, because passes over the block are what
    costs besides the matrix products. A positive that several blocks hold is a candidate in each,
    and the gradient of its one score goes through the first.
    """
    import torch

    count = len(terms.pairs)
    first = blocks[0]
    loss = first.anchors.new_zeros(())
    buffers = [block.anchors.new_empty(min(tile, count), len(block.candidates)) for block in blocks]
    copies = sum(block.holds_positive for block in blocks)
    for start in range(0, count, tile):
        rows = slice(start, min(start + tile, count))
        weight = terms.weights[rows, None]
        tiles = [block.score(terms, rows, out) for block, out in zip(blocks, buffers)]
        target = tiles[0].target
        top = target
        for scored in tiles:
            top = torch.maximum(scored.scores.amax(1, keepdim=True), top)
        negatives = torch.zeros_like(target)
        for scored in tiles:  # scores hold exp(s - top) from here
            negatives += scored.scores.sub_(top).exp_().sum(1, keepdim=True)
        total = negatives + copies * (target - top).exp()
        loss += (weight * (total.log() + top - target)).sum()
        share = weight / total
        tiles[0].scores.scatter_(1, tiles[0].column, -negatives)
        for block, scored in zip(blocks, tiles):
            block.anchor_gradient.index_add_(
                0,
                scored.anchors,
                (scored.scores @ block.candidates).mul_(share / terms.temperature),
            )
            block.candidate_gradient.addmm_(scored.scores.T, scored.scaled.mul_(share))
    return loss
