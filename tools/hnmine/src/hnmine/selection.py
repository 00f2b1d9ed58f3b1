"""Which ranked candidates become negatives: the range of ranks, the guards, the draw."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import polars as pl

from hnmine.guards import GuardChain
from hnmine.options import Options
from hnmine.rank_range import RankRange

NEGATIVE = ("row", "candidate", "score", "kind")  # columns of a frame of negatives


class NegativeKind(IntEnum):
    """Where a negative comes from, in the order in which a row lists them."""

    OLD = 0
    MINED = 1
    PADDING = 2


def _weighted(options: Options) -> pl.Expr:
    """Gumbel noise on s/T: a draw without replacement, p ~ exp(s/T) (Kool et al., ICML 2019)."""
    gumbel = -(-pl.col("noise").log()).log()
    return -(pl.col("score").cast(pl.Float64) / options.sample_temperature + gumbel)


# What is drawn first, by --sample: the candidates of a row in the order of this expression.
DRAW_ORDERS: dict[str, Callable[[Options], pl.Expr]] = {
    "top": lambda options: pl.col("rank"),
    "random": lambda options: pl.col("noise"),
    "weighted": _weighted,
}


def with_kind(negatives: pl.DataFrame, kind: NegativeKind) -> pl.DataFrame:
    """These candidates as negatives of this kind."""
    return negatives.with_columns(kind=pl.lit(kind, pl.Int8)).select(NEGATIVE)


class NegativeSelector:
    """Ranks candidates, and chooses negatives among them.

    A draw depends on seed, row id and text, and on nothing else.
    """

    def __init__(self, guards: GuardChain, ranks: RankRange) -> None:
        self.guards = guards
        self.evidence = guards.evidence
        self.options = guards.evidence.options
        self.ranks = ranks
        # FlagEmbedding's slice counts from 0 and stops before `high`.
        self.last = ranks.high - 1 if self.options.raw_range else ranks.high

    def with_ranks(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates, of each row best first, with `rejected_by` and `rank`.

        What is rejected has the rank of the candidate before it, with --raw-range one of its own.
        """
        candidates = self.guards.with_rejections(candidates)
        rank = pl.col("rejected_by").is_null().cum_sum()
        if self.options.raw_range:
            rank = pl.int_range(pl.len(), dtype=pl.Int32)
        return candidates.with_columns(rank=rank.over("row"))

    def rows_with_whole_range(self, ranked: pl.DataFrame) -> pl.Series:
        """The rows whose candidates reach the last rank."""
        return ranked.filter(pl.col("rank") >= self.last)["row"].unique()

    def select(self, ranked: pl.DataFrame) -> pl.DataFrame:
        """The negatives of each row, nearest first."""
        seen = ranked.filter(pl.col("rank") <= self.last)
        self.guards.count_rejections(seen)
        is_eligible = pl.col("rejected_by").is_null() & (pl.col("rank") >= self.ranks.low)
        eligible = seen.filter(is_eligible).join(
            self.evidence.queries.old_negatives_frame,
            on=["row", "candidate"],
            how="anti",
            maintain_order="left",
        )
        eligible = self.guards.passed(eligible, "range")
        order = DRAW_ORDERS[self.options.sample](self.options)
        eligible = self.evidence.with_columns_of(eligible, order)
        drawn = self._draw(eligible.sort("row", order, maintain_order=True))
        return with_kind(drawn.sort("row", "rank"), NegativeKind.MINED)

    def _draw(self, queue: pl.DataFrame) -> pl.DataFrame:
        """The first --negatives candidates of each row that pass the guards of the stage `draw`.

        queue: the candidates of each row in the order of the draw. Guards see only what is drawn.
        """
        accepted = [queue.clear().select(["row", "candidate", "score", "rank"])]
        queue = queue.with_columns(missing=pl.lit(self.options.negative_count, pl.UInt32))
        turn = pl.int_range(pl.len(), dtype=pl.UInt32).over("row")
        while queue.height:
            is_next = queue.select(turn < pl.col("missing")).to_series()
            drawn = self.guards.passed(queue.filter(is_next), "draw")
            accepted.append(drawn.select(accepted[0].columns))
            counts = drawn.group_by("row").agg(accepted=pl.len())
            queue = queue.filter(~is_next).join(counts, on="row", how="left", maintain_order="left")
            still_missing = pl.col("missing") - pl.col("accepted").fill_null(0)
            queue = queue.with_columns(missing=still_missing).drop("accepted")
            queue = queue.filter(pl.col("missing") > 0)
        return pl.concat(accepted)
