"""What a cross-encoder says of the pairs: which candidates are positives after all, and the scores it gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fletching import text_keys
from fletching.encode.reranker import Reranker
from hnmine.pool import Pool
from hnmine.queries import Queries


class Verdict:
    """A candidate is a positive when it scores above the lowest positive of its query less `margin`.

    asked: the query texts of rows. Scores are kept: 16 bytes a pair.
    """

    def __init__(
        self,
        reranker: Reranker,
        queries: Queries,
        pool: Pool,
        asked: Callable[[np.ndarray], list[str]],
        margin: float,
    ) -> None:
        self.reranker, self.queries, self.pool, self.asked, self.margin = (
            reranker,
            queries,
            pool,
            asked,
            margin,
        )
        self.known = np.zeros(0, np.uint64)  # sorted: mix(row, number)
        self.scores = np.zeros(0, np.float32)
        self.floor = np.full(len(queries.floor), np.nan, np.float32)  # of a group

    def positive(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Which pairs (row, number) the reranker takes for positives, bool (n,)."""
        return self.score(rows, numbers) > self._floor(rows) - self.margin

    def score(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The score of each pair, float32 (n,); each pair is scored once."""
        asked = text_keys.mix(rows, numbers)
        _, fresh = np.unique(asked, return_index=True)
        fresh = fresh[~np.isin(asked[fresh], self.known)]
        if len(fresh):
            found = self.reranker.score(
                self.asked(rows[fresh]), self.pool.texts(numbers[fresh]).to_pylist()
            )
            known, scores = (
                np.concatenate([self.known, asked[fresh]]),
                np.concatenate([self.scores, found]),
            )
            order = np.argsort(known)
            self.known, self.scores = known[order], scores[order]
        return self.scores[np.searchsorted(self.known, asked)]

    def _floor(self, rows: np.ndarray) -> np.ndarray:
        groups, first = np.unique(self.queries.group[rows], return_index=True)
        missing = np.isnan(self.floor[groups])
        groups, first = groups[missing], first[missing]
        if len(groups):
            item, positive = self.queries.merged.of(groups)
            lowest = np.full(len(groups), np.inf, np.float32)
            np.minimum.at(lowest, item, self.score(rows[first][item], positive))
            self.floor[groups] = lowest
        return self.floor[self.queries.group[rows]]
