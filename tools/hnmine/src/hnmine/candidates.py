"""What is known of a text that may become a negative of a row, as columns of a frame.

Every frame of candidates has these, with one row for each pair of a row and a text:

row             number of the row in the shard
candidate       number of the text in the pool
score           float32, cosine to the query
positive_score  float32, the lowest score of a positive of the row's query

The entries of COLUMNS are computed when an expression names them, for the pairs that are left:

    @column("text")
    def text(candidates, evidence):
        return pl.Series(evidence.pool.texts(candidates["candidate"].to_numpy()))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from fletching import text_keys
from fletching.encode import memmap_buffer
from fletching.registry import Registry
from hnmine.arrays import Numbers, Scores, Vectors
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.queries import MinedQueries
from hnmine.reranker_scores import RerankerScores

Column = Callable[[pl.DataFrame, "Evidence"], pl.Series]
COLUMNS: Registry[Column] = Registry("column of candidates")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the columns of candidates are computed from."""

    options: Options
    queries: MinedQueries
    pool: DocumentPool
    vectors: Vectors  # of the pool
    reranker: RerankerScores | None

    def cosines(self, rows: Numbers, numbers: Numbers) -> Scores:
        """The cosine of each pair (row, number), (n,)."""
        return memmap_buffer.pairwise_dot(
            left=self.queries.vectors, left_rows=rows, right=self.vectors, right_rows=numbers
        )

    def candidates(self, rows: Numbers, numbers: Numbers, scores: Scores) -> pl.DataFrame:
        """The frame of the pairs (row, number) with these scores, all (n,)."""
        positive_scores = self.queries.lowest_positive_scores[self.queries.groups[rows]]
        return pl.DataFrame(
            {
                "row": pl.Series(rows, dtype=pl.Int32),
                "candidate": pl.Series(numbers, dtype=pl.Int32),
                "score": pl.Series(scores, dtype=pl.Float32),
                "positive_score": pl.Series(positive_scores, dtype=pl.Float32),
            }
        )

    def with_columns_of(self, candidates: pl.DataFrame, expression: pl.Expr) -> pl.DataFrame:
        """The frame with the columns that the expression names and that it lacks."""
        for name in expression.meta.root_names():
            if name not in candidates.columns:
                values = COLUMNS[name](candidates, self).alias(name)
                candidates = candidates.with_columns(values)
        return candidates


def column(name: str) -> Callable[[Column], Column]:
    """Register a column that is computed when an expression names it."""

    def register(compute: Column) -> Column:
        """Add the entry; the function stays as it is."""
        COLUMNS.register(name, compute)
        return compute

    return register


@column("text")
def text(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """The candidate's text."""
    return pl.Series(evidence.pool.texts(candidates["candidate"].to_numpy()))


@column("is_positive")
def is_positive(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """Is it a known answer: the query itself, a positive, an equal of one, judged relevant?"""
    keys = evidence.pool.text_keys[candidates["candidate"].to_numpy()]
    return pl.Series(evidence.queries.are_known_answers(candidates["row"].to_numpy(), keys))


@column("copy_score")
def copy_score(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """The highest cosine of the candidate to a positive of the row's query."""
    groups = evidence.queries.groups[candidates["row"].to_numpy()]
    positives = evidence.queries.group_positives.take(groups)
    owners = positives.owners
    cosines = memmap_buffer.pairwise_dot(
        left=evidence.vectors,
        left_rows=candidates["candidate"].to_numpy()[owners],
        right=evidence.vectors,
        right_rows=positives.values,
    )
    highest = np.full(candidates.height, -np.inf, np.float32)
    np.maximum.at(highest, owners, cosines)
    return pl.Series(highest)


@column("reranker_score")
def reranker_score(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """The score of the cross-encoder."""
    assert evidence.reranker is not None  # named by guards of --reranker alone
    return evidence.reranker.scores(candidates)


@column("positive_reranker_score")
def positive_reranker_score(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """The lowest score that the cross-encoder gives a positive of the row's query."""
    assert evidence.reranker is not None
    return evidence.reranker.lowest_positive_scores(candidates["row"])


@column("noise")
def noise(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """A number in (0, 1) that depends on seed, row id and text alone."""
    seeds = evidence.queries.draw_seeds[candidates["row"].to_numpy()]
    keys = text_keys.mix(seeds, evidence.pool.text_keys[candidates["candidate"].to_numpy()])
    return pl.Series(((keys >> np.uint64(11)).astype(float) + 0.5) / 2**53)
