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
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from fletching import text_keys
from fletching.arrays import Keys, Numbers, Scores, Vectors
from fletching.encode import memmap_buffer
from fletching.registry import Registry
from hnmine.options import Options
from hnmine.queries import PAIR, MinedQueries, QueryTexts

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker

Column = Callable[[pl.DataFrame, "Evidence"], pl.Series]
COLUMNS: Registry[Column] = Registry("column of candidates")


class PoolTexts(Protocol):
    """What is asked of a pool."""

    text_keys: Keys  # of the normalised texts, by number

    def texts(self, numbers: Numbers) -> pa.Array:
        """The texts of these numbers."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the columns of candidates are computed from."""

    options: Options
    queries: MinedQueries
    pool: PoolTexts
    vectors: Vectors  # of the pool
    query_texts: QueryTexts
    reranker: RerankerScores | None = None

    def cosines(self, rows: Numbers, numbers: Numbers) -> Scores:
        """The cosine of each pair (row, number), (n,)."""
        return memmap_buffer.pairwise_dot(
            left=self.queries.vectors, left_rows=rows, right=self.vectors, right_rows=numbers
        )

    def candidates(
        self, rows: Numbers, numbers: Numbers, scores: Scores | None = None
    ) -> pl.DataFrame:
        """The frame of the pairs (row, number), all (n,). scores: their cosines, where known."""
        if scores is None:
            scores = self.cosines(rows, numbers)
        pairs = pl.DataFrame({"row": rows, "candidate": numbers}, schema=PAIR)
        positive_scores = self.queries.lowest_positive_scores[rows]
        return pairs.with_columns(
            score=pl.Series(scores, dtype=pl.Float32),
            positive_score=pl.Series(positive_scores, dtype=pl.Float32),
        )

    def with_columns_of(self, candidates: pl.DataFrame, expression: pl.Expr) -> pl.DataFrame:
        """The frame with the columns that the expression names and that it lacks."""
        for name in expression.meta.root_names():
            if name not in candidates.columns:
                values = COLUMNS[name](candidates, self).alias(name)
                candidates = candidates.with_columns(values)
        return candidates


class RerankerScores:
    """Scores of a cross-encoder, each pair once: 12 bytes a pair."""

    def __init__(self, reranker: Reranker, pool: PoolTexts, query_texts: QueryTexts) -> None:
        self.reranker = reranker
        self.pool = pool
        self.query_texts = query_texts
        self.scored = pl.DataFrame(schema=PAIR | {"reranker_score": pl.Float32})

    def scores(self, pairs: pl.DataFrame) -> pl.Series:
        """The score of each pair, (n,). pairs: a frame with `row` and `candidate`."""
        pairs = pairs.select(*PAIR)
        new = pairs.unique().join(self.scored, on=list(PAIR), how="anti").sort(list(PAIR))
        if new.height:
            queries = self.query_texts(new["row"].to_numpy())
            texts = self.pool.texts(new["candidate"].to_numpy()).to_pylist()
            scores = pl.Series("reranker_score", self.reranker.score(queries, texts))
            self.scored = pl.concat([self.scored, new.with_columns(scores)])
        known = pairs.join(self.scored, on=list(PAIR), how="left", maintain_order="left")
        return known["reranker_score"]


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


@column("key")
def key(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """The key of the candidate's normalised text, uint64."""
    return pl.Series(evidence.pool.text_keys[candidates["candidate"].to_numpy()])


@column("is_positive")
def is_positive(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """Is it a known answer: the query itself, a positive, an equal of one, judged relevant?"""
    queries = evidence.queries.keys[candidates["row"].to_numpy()]
    texts = evidence.with_columns_of(candidates, pl.col("key"))["key"]
    answers = text_keys.mix(queries, texts.to_numpy())
    return pl.Series(evidence.queries.known_answers.contains(answers))


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
    """The lowest score that the cross-encoder gives a positive of the row's query.

    Rows of an equal query share those of the first one.
    """
    assert evidence.reranker is not None
    queries = evidence.queries
    groups = pl.Series("group", queries.groups[candidates["row"].to_numpy()])
    distinct = groups.unique().sort().to_numpy()
    positives = queries.group_positives.take(distinct)
    owners = distinct[positives.owners]
    first_rows = queries.first_rows[owners]
    pairs = pl.DataFrame({"row": first_rows, "candidate": positives.values}, schema=PAIR)
    scored = pairs.select(pl.Series("group", owners), evidence.reranker.scores(pairs))
    lowest = scored.group_by("group").min()
    of_rows = groups.to_frame().join(lowest, on="group", how="left", maintain_order="left")
    return of_rows["reranker_score"]


@column("noise")
def noise(candidates: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """A number in (0, 1) that depends on seed, row id and text alone."""
    seeds = evidence.queries.draw_seeds[candidates["row"].to_numpy()]
    texts = evidence.with_columns_of(candidates, pl.col("key"))["key"]
    mixed = text_keys.mix(seeds, texts.to_numpy())
    mantissas = (mixed >> np.uint64(11)).astype(float)
    return pl.Series((mantissas + 0.5) / 2**53)
