"""Which candidates are negatives of an anchor: masks of known answers, of a guide and by option."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from contrast_train.losses.structure import PairStructure, RaggedTensor

if TYPE_CHECKING:
    from torch import Tensor

Way = Literal["query-doc", "doc-query", "query-query", "doc-doc"]
Hardness = Literal["all", "hard", "in-batch"]


@dataclass(frozen=True, kw_only=True)
class ContrastSettings:
    """Which texts a text is compared with, and how the scores become a loss.

    directions: anchors and their candidates. query-doc: the documents, for each query. doc-query:
    the queries, for the positive. query-query: the other queries, except those that share the
    positive. doc-doc: the other documents, for the positive, except those that answer a query of
    it and the hard negatives of the pair's own query. symmetric, query_negatives: short for
    doc-query and query-query.
    softmax: one over the scores of all directions, or one for queries as anchors and one for
    documents, of which the mean is taken.
    candidates: all documents of the batch; own hard negatives and everyone's positives;
    everyone's hard negatives; own hard negatives alone.
    hardness_weight, hardness_of: a constant hardness_weight * s is added to the scores of these
    documents as negatives of a query: all, its own hard negatives, or all others.
    guide_margin: with guide vectors, leave out candidates nearer by the guide than the
    positive's similarity - guide_margin, or x (1 - guide_margin) if guide_relative (Solatorio
    2024). tile: anchors whose scores are computed at a time.
    """

    directions: tuple[Way, ...] = ("query-doc",)
    symmetric: bool = False
    query_negatives: bool = False
    softmax: Literal["joint", "per-direction"] = "per-direction"
    candidates: Literal["all", "positives", "hard", "own"] = "all"
    hardness_weight: float = 0.0
    hardness_of: Hardness = "all"
    guide_margin: float = 0.0
    guide_relative: bool = False
    tile: int = 512

    @property
    def ways(self) -> frozenset[Way]:
        """The directions, those of the short forms too."""
        short: set[Way] = {"doc-query"} if self.symmetric else set()
        short |= {"query-query"} if self.query_negatives else set()
        return frozenset(self.directions) | short

    @property
    def has_document_anchors(self) -> bool:
        """Do documents rank candidates too?"""
        return bool(self.ways & {"doc-query", "doc-doc"})

    def contradiction(self) -> tuple[str, str] | None:
        """(what is wrong, the fix) of directions that leave a softmax nothing; None where all is
        well.
        """
        if "query-doc" not in self.ways:
            return "--directions without query-doc has no positives", "add query-doc"
        if "doc-doc" not in self.ways:
            return None
        if "doc-query" not in self.ways and self.softmax == "per-direction":
            return (
                "--directions doc-doc has no positives in a softmax of its own",
                "add doc-query, or pass --softmax joint",
            )
        if self.candidates == "own":
            return "--candidates own leaves --directions doc-doc nothing", "leave one of them out"
        return None


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
    """Which candidates are negatives of an anchor, for anchors (A) and candidates (C).

    masked: of each anchor, the candidates that answer it. masked_of_positive: the same of each
    positive. shared bool (C,): candidates of every anchor; None: all are. hard_negatives: of each
    anchor, its own besides the shared ones.
    """

    masked: RaggedTensor
    masked_of_positive: RaggedTensor | None = None
    shared: Tensor | None = None
    hard_negatives: RaggedTensor | None = None
    guide: GuideMask | None = None

    def apply(self, scores: Tensor, anchors: Tensor, positives: Tensor) -> None:
        """Set scores (t, C) of what is no negative to -inf, in place; the caller restores
        `positives` (t,).
        """
        if self.shared is not None:
            is_candidate = self.shared.repeat(len(anchors), 1)
            if self.hard_negatives is not None:
                opened = self.hard_negatives.take(anchors)
                is_candidate[opened.owners, opened.values] = True
            scores.masked_fill_(~is_candidate, -math.inf)
        if self.guide is not None:
            scores.masked_fill_(self.guide.near(anchors, positives), -math.inf)
        answers = self.masked.take(anchors)
        scores[answers.owners, answers.values] = -math.inf
        if self.masked_of_positive is not None:
            others = self.masked_of_positive.take(positives)
            scores[others.owners, others.values] = -math.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class HardnessWeighting:
    """Adds the constant weight * s to the scores s / T of a query's negative documents.

    hard_negatives: of each query. documents: the first columns of the scores.
    """

    weight: float
    of: Hardness
    hard_negatives: RaggedTensor
    documents: int

    def apply(self, scores: Tensor, anchors: Tensor, temperature: float) -> None:
        """Change scores (t, C) in place."""
        factor = 1 + self.weight * temperature
        hard = self.hard_negatives.take(anchors)
        scores_of_hard = scores[hard.owners, hard.values]
        if self.of != "hard":
            scores[:, : self.documents] *= factor
        if self.of != "in-batch":
            scores_of_hard = scores_of_hard * factor
        scores[hard.owners, hard.values] = scores_of_hard


def query_masks(
    pairs: PairStructure, settings: ContrastSettings, *, queries: int, documents: int
) -> CandidateMasks:
    """For queries as anchors; the candidates are the documents, then the queries if they are."""
    import torch

    masked = pairs.masked_pairs
    with_queries = "query-query" in settings.ways
    if with_queries:
        masked = torch.cat([masked, _queries_sharing_a_positive(pairs, documents)])
    guide = None
    if pairs.guide is not None:
        guide = _guide_mask(*pairs.guide, settings=settings, same_side=with_queries)
    by_query = RaggedTensor.from_pairs(masked, rows=queries)
    if settings.candidates == "all":
        return CandidateMasks(masked=by_query, guide=guide)
    is_shared = torch.cat(
        [
            _shared_documents(pairs, settings, documents),
            masked.new_ones(queries if with_queries else 0, dtype=torch.bool),
        ]
    )
    return CandidateMasks(
        masked=by_query,
        shared=is_shared,
        hard_negatives=RaggedTensor.from_pairs(pairs.hard_negative_pairs, rows=queries),
        guide=guide,
    )


def document_masks(
    pairs: PairStructure, settings: ContrastSettings, *, queries: int, documents: int
) -> CandidateMasks:
    """For documents as anchors; the candidates are the queries, then the documents if they are."""
    import torch

    masked = pairs.masked_pairs.flip(1)
    with_documents = "doc-doc" in settings.ways
    of_positive, shared = None, None
    if with_documents:
        siblings = _documents_sharing_a_query(pairs, queries=queries, documents=documents)
        masked = torch.cat([masked, siblings])
        hard_negatives = pairs.hard_negative_pairs + masked.new_tensor([0, queries])
        of_positive = RaggedTensor.from_pairs(hard_negatives, rows=queries)
        is_query = masked.new_full((queries,), "doc-query" in settings.ways, dtype=torch.bool)
        shared = torch.cat([is_query, _shared_documents(pairs, settings, documents)])
    guide = None
    if pairs.guide is not None:
        of_queries, of_documents = pairs.guide
        guide = _guide_mask(of_documents, of_queries, settings=settings, same_side=with_documents)
    return CandidateMasks(
        masked=RaggedTensor.from_pairs(masked, rows=documents),
        masked_of_positive=of_positive,
        shared=shared,
        guide=guide,
    )


def _shared_documents(pairs: PairStructure, settings: ContrastSettings, documents: int) -> Tensor:
    """bool (N,): documents that --candidates makes candidates of every anchor."""
    import torch

    shape = pairs.masked_pairs.new_zeros(documents, dtype=torch.bool)
    if settings.candidates == "all":
        return ~shape
    if settings.candidates == "positives":
        shape[pairs.positive_pairs[:, 1]] = True
    elif settings.candidates == "hard":
        shape[pairs.hard_negative_pairs[:, 1]] = True
    return shape


def _guide_mask(
    anchors: Tensor, candidates: Tensor, *, settings: ContrastSettings, same_side: bool
) -> GuideMask:
    """same_side: are the anchors candidates too?"""
    import torch

    return GuideMask(
        anchors=anchors,
        candidates=torch.cat([candidates, anchors]) if same_side else candidates,
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


def _documents_sharing_a_query(pairs: PairStructure, *, queries: int, documents: int) -> Tensor:
    """(positive, queries + other document), where both answer one query; itself included."""
    import torch

    _, positives = pairs.positive_pairs.T
    positives = positives.unique()
    queries_by_document = RaggedTensor.from_pairs(pairs.masked_pairs.flip(1), rows=documents)
    documents_by_query = RaggedTensor.from_pairs(pairs.masked_pairs, rows=queries)
    answered = queries_by_document.take(positives)
    others = documents_by_query.take(answered.values)
    owners = positives[answered.owners[others.owners]]
    sharing = torch.stack([owners, queries + others.values], 1)
    return torch.cat([sharing, torch.stack([positives, queries + positives], 1)])
