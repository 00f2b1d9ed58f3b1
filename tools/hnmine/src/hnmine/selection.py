"""Which ranked candidates become negatives: the range of ranks, the guards, the draw, padding."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import polars as pl

from fletching import text_keys
from fletching.arrays import Numbers
from hnmine.guards import GuardChain
from hnmine.options import Options
from hnmine.pool import Domain
from hnmine.queries import PAIR

NEGATIVE = ("row", "candidate", "score", "kind")  # columns of a frame of negatives
ATTEMPTS = 50  # random texts looked at to pad a row


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

    A draw depends on seed, row id and text, and on nothing else. low, high: of --range.
    """

    def __init__(self, guards: GuardChain, *, low: int, high: int) -> None:
        self.guards = guards
        self.evidence = guards.evidence
        self.options = guards.evidence.options
        self.low = low
        self.high = high
        # FlagEmbedding's slice counts from 0 and stops before `high`.
        self.last = high - 1 if self.options.raw_range else high

    def with_ranks(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates, of each row best first, with `rejected_by` and `rank`.

        What is rejected has the rank of the candidate before it, with --raw-range one of its own.
        """
        candidates = self.guards.with_rejections(candidates)
        rank = pl.col("rejected_by").is_null().cum_sum()
        if self.options.raw_range:
            rank = pl.int_range(pl.len(), dtype=pl.Int32)
        rank = rank.over("row")
        return candidates.with_columns(rank=rank)

    def seen(self, ranked: pl.DataFrame) -> pl.DataFrame:
        """The candidates up to the last rank, and of what is rejected what comes before it.

        How far the search has looked beyond makes no difference to them.
        """
        before = self.last if self.options.raw_range else self.last - 1
        last = pl.when(pl.col("rejected_by").is_null()).then(self.last).otherwise(before)
        return ranked.filter(pl.col("rank") <= last)

    def in_range(self, seen: pl.DataFrame) -> pl.DataFrame:
        """The candidates from the first rank of the range on."""
        return seen.filter(pl.col("rank") >= self.low, pl.col("rejected_by").is_null())

    def select(self, ranked: pl.DataFrame) -> pl.DataFrame:
        """The negatives of each row, nearest first."""
        seen = self.seen(ranked)
        self.guards.count_rejections(seen)
        eligible = self.in_range(seen)
        eligible = self._not_taken(eligible, self.evidence.queries.taken)
        eligible = self.guards.passed(eligible, "range")
        order = DRAW_ORDERS[self.options.sample](self.options)
        eligible = self.evidence.with_columns_of(eligible, order)
        queue = eligible.sort("row", order, maintain_order=True)
        drawn = self._draw(queue).sort("row", "rank")
        return with_kind(drawn, NegativeKind.MINED)

    def _not_taken(self, candidates: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
        return candidates.join(taken, on=list(PAIR), how="anti", maintain_order="left")

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
            counts = drawn.group_by("row").len("accepted")
            queue = queue.filter(~is_next)
            queue = queue.join(counts, on="row", how="left", maintain_order="left")
            still_missing = pl.col("missing") - pl.col("accepted").fill_null(0)
            queue = queue.with_columns(missing=still_missing).drop("accepted")
            queue = queue.filter(pl.col("missing") > 0)
        return pl.concat(accepted)

    def pad(self, rows: Numbers, mined: pl.DataFrame, domain: Domain) -> pl.DataFrame:
        """Random texts of the domain, under the same guards, for rows short of --negatives.

        rows: (w,), of the domain. mined: the negatives of all rows.
        """
        counts = mined.group_by("row").len("count")
        short = pl.DataFrame({"row": rows}, schema={"row": pl.Int32})
        short = short.join(counts, on="row", how="left", maintain_order="left").fill_null(0)
        is_short = pl.col("count") < self.options.negative_count
        taken = pl.concat([mined.select(*PAIR), self.evidence.queries.taken])
        padding = [with_kind(mined.clear(), NegativeKind.PADDING)]
        for attempt in range(ATTEMPTS):
            short = short.filter(is_short)
            if not short.height:
                break
            pairs = self._random_texts(short["row"].to_numpy(), domain, attempt)
            pairs = self.guards.with_rejections(pairs)
            pairs = pairs.filter(pl.col("rejected_by").is_null())
            pairs = self._not_taken(pairs, taken)
            pairs = self.guards.passed(pairs, "range")
            accepted = self.guards.passed(pairs, "draw")
            padding.append(with_kind(accepted, NegativeKind.PADDING))
            taken = pl.concat([taken, accepted.select(*PAIR)])
            is_accepted = pl.col("row").is_in(accepted["row"].implode())
            short = short.with_columns(pl.col("count") + is_accepted)
        return pl.concat(padding)

    def _random_texts(self, rows: Numbers, domain: Domain, attempt: int) -> pl.DataFrame:
        """A text of the domain for each row; it depends on the row's seed and the attempt alone."""
        hashes = text_keys.mix(self.evidence.queries.draw_seeds[rows], attempt)
        within = hashes % np.uint64(len(domain))
        numbers = domain.first + within.astype(np.int64)
        return self.evidence.candidates(rows, numbers)
