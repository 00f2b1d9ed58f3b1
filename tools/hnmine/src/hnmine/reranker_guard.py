"""A cross-encoder's scores of (query, text) pairs, and which candidates it takes for positives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fletching import text_keys
from fletching.encode.reranker import Reranker
from fletching.table import KeySet
from hnmine.arrays import Mask, Numbers, Scores
from hnmine.pool import DocumentPool
from hnmine.queries import MinedQueries


class RerankerGuard:
    """Scores of a cross-encoder, each pair once: 16 bytes a pair.

    query_texts: the query texts of rows. margin: a candidate is a positive when it scores above
    the lowest positive of its query less this.
    """

    def __init__(
        self,
        reranker: Reranker,
        *,
        queries: MinedQueries,
        pool: DocumentPool,
        query_texts: Callable[[Numbers], list[str]],
        margin: float,
    ) -> None:
        self.reranker = reranker
        self.queries = queries
        self.pool = pool
        self.query_texts = query_texts
        self.margin = margin
        self.scored = KeySet(np.zeros(0, np.uint64))  # mix(row, number)
        self.scores = np.zeros(0, np.float32)  # aligned with scored.keys
        self.lowest = np.full(len(queries.lowest_positive_scores), np.nan, np.float32)  # (g,)

    def are_positives(self, rows: Numbers, numbers: Numbers) -> Mask:
        """Which pairs (row, number) the reranker takes for positives, (n,)."""
        is_above: Mask = self.score(rows, numbers) > self._lowest_positive(rows) - self.margin
        return is_above

    def score(self, rows: Numbers, numbers: Numbers) -> Scores:
        """The score of each pair (row, number), (n,)."""
        pairs = text_keys.mix(rows, numbers)
        _, first_position = np.unique(pairs, return_index=True)
        fresh = first_position[~self.scored.contains(pairs[first_position])]
        if len(fresh):
            texts = self.pool.texts(numbers[fresh]).to_pylist()
            fresh_scores = self.reranker.score(self.query_texts(rows[fresh]), texts)
            keys = np.concatenate([self.scored.keys, pairs[fresh]])
            scores = np.concatenate([self.scores, fresh_scores])
            self.scores = scores[np.argsort(keys)]
            self.scored = KeySet(keys)
        return self.scores[self.scored.positions(pairs)]

    def _lowest_positive(self, rows: Numbers) -> Scores:
        """The lowest score of a positive of each row's query, (n,)."""
        groups, first_rows = np.unique(self.queries.groups[rows], return_index=True)
        is_missing = np.isnan(self.lowest[groups])
        groups = groups[is_missing]
        first_rows = first_rows[is_missing]
        if len(groups):
            positives = self.queries.group_positives.take(groups)
            owners = positives.owners
            lowest = np.full(len(groups), np.inf, np.float32)
            scores = self.score(rows[first_rows][owners], positives.values)
            np.minimum.at(lowest, owners, scores)
            self.lowest[groups] = lowest
        return self.lowest[self.queries.groups[rows]]
