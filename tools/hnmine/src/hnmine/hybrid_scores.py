"""Hybrid scores: the cosine and BM25 of a pair as one number, a teacher that knows words.

BM25 is brought to the unit of the cosines by their deviations over the pool, for each query:

    cosine + weight deviation(cosines) (BM25 - mean) / deviation(BM25)

so that a student with the temperature of its teacher learns nothing but what the words add.
Fusing the two ranks better than either on most corpora (Thakur et al. 2021, arXiv 2104.08663;
Bruch et al. 2023, arXiv 2210.11934, on how), and a student that learns such lists by their KL
divergence takes from the words what its vectors missed, without labels (Xu et al. 2022, LaPraDoR,
arXiv 2203.06169; Chen et al. 2022, SPAR, arXiv 2110.06918).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from fletching.arrays import Numbers, Scores
from hnmine.bm25 import WordIndex
from hnmine.candidates import Evidence
from hnmine.pool import DocumentPool
from hnmine.queries import PAIR

SAMPLE = 4096  # texts of the pool over which cosines are standardised


class HybridScores:
    """Hybrid scores over one pool. Raises UsageError where bm25s is not installed."""

    def __init__(self, evidence: Evidence, pool: DocumentPool) -> None:
        self.evidence = evidence
        self.weight = evidence.options.bm25_weight
        texts = pool.texts(np.arange(pool.vectors_needed)).to_pylist()
        self.index = WordIndex(texts, "--scores hybrid")
        step = max(-(-len(texts) // SAMPLE), 1)
        self.sample = np.ascontiguousarray(evidence.vectors[::step])  # (s, D)

    def scores(self, pairs: pl.DataFrame) -> pl.Series:
        """The score of each pair, float32 (n,). pairs: a frame with `row` and `candidate`."""
        by_row = pairs.select(*PAIR).with_row_index("position").sort("row", maintain_order=True)
        scores = np.empty(pairs.height, np.float32)
        for (row,), group in by_row.group_by("row", maintain_order=True):
            scores[group["position"].to_numpy()] = self._of_row(row, group["candidate"].to_numpy())
        return pl.Series("score", scores)

    def _of_row(self, row: int, numbers: Numbers) -> Scores:
        """The scores of these texts of the pool to the query of a row."""
        rows = np.full(len(numbers), row)
        cosines = self.evidence.cosines(rows, numbers)
        usual = self.sample @ self.evidence.queries.vectors[row]  # (s,)
        [query] = self.evidence.query_texts(rows[:1])
        bm25 = self.index.scores(query)
        deviation = bm25.std()
        if deviation == 0:  # no text has a word of the query
            return cosines
        standardised = (bm25[numbers] - bm25.mean()) / deviation
        hybrid: Scores = cosines + self.weight * usual.std() * standardised
        return hybrid
