"""What a model retrieved for one query, and the ranks of the relevant documents in it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

MISSED = 0  # the rank of the first relevant document where none was retrieved


@dataclass(frozen=True)
class RankedQuery:
    """One query of a retrieval task.

    grades: relevance by document id. scores: similarity of the retrieved documents by id.
    by_mteb: the figures that mteb computed for this query, e.g. `ndcg_cut_10`.
    """

    grades: Mapping[str, int]
    scores: Mapping[str, float]
    by_mteb: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def first_rank(self) -> int:
        """Rank from 1 of the first relevant document; MISSED where none was retrieved.

        Documents of equal score rank by falling id, as in trec_eval, pytrec_eval and mteb.
        """
        relevant = [(score, name) for name, score in self.scores.items() if self._is_relevant(name)]
        if not relevant:
            return MISSED
        best = max(relevant)
        return 1 + sum((score, name) > best for name, score in self.scores.items())

    def best(self, count: int) -> list[str]:
        """The ids of the documents that rank first, at most `count`."""
        ranked = heapq.nlargest(count, self.scores.items(), key=lambda item: (item[1], item[0]))
        return [name for name, _ in ranked]

    @property
    def pessimistic_rank(self) -> int:
        """How many documents score at least as high as the best relevant one, itself included.

        One past the last document where none was retrieved.
        """
        relevant = [score for name, score in self.scores.items() if self._is_relevant(name)]
        if not relevant:
            return len(self.scores) + 1
        return sum(score >= max(relevant) for score in self.scores.values())

    def _is_relevant(self, name: str) -> bool:
        return self.grades.get(name, 0) > 0
