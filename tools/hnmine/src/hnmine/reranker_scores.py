"""A cross-encoder's scores of pairs of a row and a text of the pool."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from fletching.encode.reranker import Reranker
from hnmine.arrays import Numbers
from hnmine.pool import DocumentPool
from hnmine.queries import MinedQueries

PAIR = ["row", "candidate"]


class RerankerScores:
    """Scores of a cross-encoder, each pair once: 12 bytes a pair.

    query_texts: the query texts of rows.
    """

    def __init__(
        self,
        reranker: Reranker,
        *,
        queries: MinedQueries,
        pool: DocumentPool,
        query_texts: Callable[[Numbers], list[str]],
    ) -> None:
        self.reranker = reranker
        self.queries = queries
        self.pool = pool
        self.query_texts = query_texts
        columns = {"row": pl.Int32, "candidate": pl.Int32, "reranker_score": pl.Float32}
        self.scored = pl.DataFrame(schema=columns)

    def scores(self, pairs: pl.DataFrame) -> pl.Series:
        """The score of each pair, (n,). pairs: a frame with `row` and `candidate`."""
        pairs = pairs.select(PAIR)
        fresh = pairs.unique().join(self.scored, on=PAIR, how="anti").sort(PAIR)
        if fresh.height:
            queries = self.query_texts(fresh["row"].to_numpy())
            texts = self.pool.texts(fresh["candidate"].to_numpy()).to_pylist()
            scores = pl.Series("reranker_score", self.reranker.score(queries, texts))
            self.scored = pl.concat([self.scored, fresh.with_columns(scores)])
        known = pairs.join(self.scored, on=PAIR, how="left", maintain_order="left")
        return known["reranker_score"]

    def lowest_positive_scores(self, rows: pl.Series) -> pl.Series:
        """The lowest score of a positive of each row's query, (n,).

        Rows of an equal query share those of the first one.
        """
        groups = pl.Series("group", self.queries.groups[rows.to_numpy()])
        distinct = groups.unique().sort().to_numpy()
        positives = self.queries.group_positives.take(distinct)
        owning_groups = distinct[positives.owners]
        pairs = pl.DataFrame(
            {
                "group": owning_groups,
                "row": pl.Series(self.queries.first_rows[owning_groups], dtype=pl.Int32),
                "candidate": pl.Series(positives.values, dtype=pl.Int32),
            }
        )
        scored = pairs.with_columns(self.scores(pairs))
        lowest = scored.group_by("group").agg(pl.col("reranker_score").min())
        of_rows = groups.to_frame().join(lowest, on="group", how="left", maintain_order="left")
        return of_rows["reranker_score"]
