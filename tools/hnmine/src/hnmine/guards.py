"""Guards against false negatives, each an entry of GUARDS.

A guard is a function (candidates, evidence) -> mask of what it rejects, or None where the options
turn it off:

    @guard("above --max-score", stage="range")
    def above_score(candidates, evidence):
        bound = evidence.options.max_score
        return None if bound is None else candidates.scores > bound

Its name is shown in the account of the run (`removed_by_guard`), with the number of candidates
that it was the first to reject. The stage says when it runs, and what it may cost:

ranking   before ranks are counted: what it rejects takes no rank
range     on every candidate in the range of ranks; vectorised
draw      on the few candidates that were drawn; what it rejects is drawn again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fletching.encode import memmap_buffer
from fletching.registry import Registry
from hnmine.arrays import Mask, Numbers, Scores, Vectors
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.queries import MinedQueries
from hnmine.reranker_guard import RerankerGuard

Stage = Literal["ranking", "range", "draw"]


@dataclass(frozen=True, kw_only=True)
class NegativeCandidates:
    """Texts that may become negatives of rows: (w, k) of w rows, or n pairs in the stage `draw`."""

    rows: Numbers  # (w, 1) or (n,)
    numbers: Numbers  # (w, k) or (n,): of texts in the pool; -1 where there is none
    scores: Scores  # the same shape: cosines to the query
    positive_scores: Scores  # (w, 1) or (n,): the lowest of a positive of the row's query

    def where(self, mask: Mask) -> NegativeCandidates:
        """The rows, or pairs, that the mask (w,) or (n,) marks."""
        return NegativeCandidates(
            rows=self.rows[mask],
            numbers=self.numbers[mask],
            scores=self.scores[mask],
            positive_scores=self.positive_scores[mask],
        )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What guards may look at."""

    options: Options
    queries: MinedQueries
    pool: DocumentPool
    vectors: Vectors  # of the pool
    reranker: RerankerGuard | None

    def cosines(self, rows: Numbers, numbers: Numbers) -> Scores:
        """The cosine of each pair (row, number), (n,)."""
        return memmap_buffer.pairwise_dot(
            left=self.queries.vectors, left_rows=rows, right=self.vectors, right_rows=numbers
        )


Rejection = Callable[[NegativeCandidates, Evidence], Mask | None]


@dataclass(frozen=True, kw_only=True)
class Guard:
    """An entry of GUARDS."""

    stage: Stage
    rejects: Rejection


GUARDS: Registry[Guard] = Registry("guard")


def guard(name: str, *, stage: Stage) -> Callable[[Rejection], Rejection]:
    """Register a guard. Guards of a stage run in the order of their registration."""

    def register(rejects: Rejection) -> Rejection:
        """Add the entry; the function stays as it is."""
        GUARDS.register(name, Guard(stage=stage, rejects=rejects))
        return rejects

    return register


@guard("positive or copy", stage="ranking")
def known_answer(candidates: NegativeCandidates, evidence: Evidence) -> Mask:
    """The query itself, its positives, texts that equal one, documents judged relevant."""
    keys = evidence.pool.text_keys[candidates.numbers]
    return evidence.queries.are_known_answers(candidates.rows, keys)


@guard("above --max-ratio", stage="range")
def above_ratio(candidates: NegativeCandidates, evidence: Evidence) -> Mask | None:
    """Too near to the positive, relative to its score (NV-Retriever, arXiv 2407.15831)."""
    ratio = evidence.options.max_ratio
    if not ratio:
        return None
    # Written with |p|, so that a negative p moves the bound down too.
    positive = candidates.positive_scores
    return candidates.scores > positive - (1 - ratio) * np.abs(positive)


@guard("above --score-margin", stage="range")
def above_margin(candidates: NegativeCandidates, evidence: Evidence) -> Mask | None:
    """Too near to the positive, by an absolute margin."""
    margin = evidence.options.score_margin
    return None if margin is None else candidates.scores > candidates.positive_scores - margin


@guard("above --max-score", stage="range")
def above_score(candidates: NegativeCandidates, evidence: Evidence) -> Mask | None:
    """Too near to the query."""
    bound = evidence.options.max_score
    return None if bound is None else candidates.scores > bound


@guard("below --min-score", stage="range")
def below_score(candidates: NegativeCandidates, evidence: Evidence) -> Mask | None:
    """Too far from the query to be hard."""
    bound = evidence.options.min_score
    return None if bound is None else candidates.scores < bound


@guard("near copy of a positive", stage="draw")
def near_copy(candidates: NegativeCandidates, evidence: Evidence) -> Mask:
    """As near to a positive of the query as --near-copy."""
    groups = evidence.queries.groups[candidates.rows]
    positives = evidence.queries.group_positives.take(groups)
    owners = positives.owners
    cosines = memmap_buffer.pairwise_dot(
        left=evidence.vectors,
        left_rows=candidates.numbers[owners],
        right=evidence.vectors,
        right_rows=positives.values,
    )
    is_copy = np.zeros(len(candidates.rows), bool)
    is_copy[owners[cosines >= evidence.options.near_copy]] = True
    return is_copy


@guard("positive to --reranker", stage="draw")
def positive_to_reranker(candidates: NegativeCandidates, evidence: Evidence) -> Mask | None:
    """Scored by the cross-encoder like a positive."""
    if evidence.reranker is None:
        return None
    return evidence.reranker.are_positives(candidates.rows, candidates.numbers)


class GuardChain:
    """All guards over the candidates of one run.

    removed: by guard, the candidates that it was the first to reject.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.removed: Counter[str] = Counter()

    def without_rank(self, candidates: NegativeCandidates) -> Mask:
        """What takes no rank: rejected in the stage `ranking`, or no candidate at all."""
        is_out: Mask = candidates.numbers < 0
        for _, rejected in self._rejections("ranking", candidates):
            is_out = is_out | rejected
        return is_out

    def count_without_rank(self, candidates: NegativeCandidates, seen: Mask) -> None:
        """Count what takes no rank among the candidates that were seen (w, k)."""
        remaining = seen & (candidates.numbers >= 0)
        for name, rejected in self._rejections("ranking", candidates):
            self._count(name, remaining & rejected)
            remaining &= ~rejected

    def in_range(self, candidates: NegativeCandidates, eligible: Mask) -> Mask:
        """Those of the eligible candidates that no guard of the stage `range` rejects."""
        remaining = eligible.copy()
        for name, rejected in self._rejections("range", candidates):
            self._count(name, remaining & rejected)
            remaining &= ~rejected
        return remaining

    def drawn(self, pairs: NegativeCandidates) -> Mask:
        """Which pairs (n,) no guard of the stage `draw` rejects.

        Each guard sees only what those before it left.
        """
        is_left = np.ones(len(pairs.rows), bool)
        for name, entry in GUARDS.items():
            if entry.stage != "draw" or not is_left.any():
                continue
            rejected = entry.rejects(pairs.where(is_left), self.evidence)
            if rejected is not None:
                self._count(name, rejected)
                is_left[is_left] = ~rejected
        return is_left

    def _rejections(
        self, stage: Stage, candidates: NegativeCandidates
    ) -> Iterator[tuple[str, Mask]]:
        for name, entry in GUARDS.items():
            if entry.stage == stage:
                rejected = entry.rejects(candidates, self.evidence)
                if rejected is not None:
                    yield name, rejected

    def _count(self, name: str, rejected: Mask) -> None:
        self.removed[name] += int(np.count_nonzero(rejected))
