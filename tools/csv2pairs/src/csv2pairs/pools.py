"""Seeded draws of distinct texts from pools, without known answers of the example that draws.

An example may draw a text that is in its pool, none of its `excluded` texts, and that no example
linked to it has. Texts are compared by their keys, that is, after normalisation. A draw depends on
the example's seed and on the texts of its pool, so neither on the order of the file nor on blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from csv2pairs.keys import matching, mixed
from csv2pairs.shared_links import KnownAnswers

SPARE = 3  # proposals more than k in the first round
GROWTH = 4  # times as many proposals in each next round; pools up to this times k are permuted
ROUNDS = 3
SEARCHED = 256  # texts of a pool that is permuted whole where sampling left an example unfilled
CELLS = 1 << 21  # proposals at once


@dataclass(frozen=True)
class DrawRequests:
    """Who draws: number (rising), pool, seed; and the texts that are excluded: number, text."""

    rows: pl.DataFrame
    excluded: pl.DataFrame

    def of(self, rows: pl.DataFrame) -> DrawRequests:
        """Those of some rows."""
        return DrawRequests(rows, self.excluded.join(rows, on="number", how="semi"))


@dataclass(frozen=True)
class TextPools:
    """The distinct texts of each pool, in order of pool and text.

    texts: text (its key), source (the number of the text to write). starts: pool, start, size.
    """

    texts: pl.DataFrame
    starts: pl.DataFrame
    known: KnownAnswers

    @classmethod
    def from_candidates(cls, candidates: pl.DataFrame, known: KnownAnswers) -> TextPools:
        """candidates: pool, text, source, seed; of equal texts, that of the smallest seed stays."""
        ordered = candidates.sort("pool", "text", "seed").drop("seed")
        is_new = pl.any_horizontal(
            pl.col(name) != pl.col(name).shift() for name in ("pool", "text")
        )
        distinct = ordered.filter(is_new.fill_null(True))
        starts = (
            distinct.with_row_index("start")
            .group_by("pool", maintain_order=True)
            .agg(pl.col("start").first(), size=pl.len())
        )
        return cls(distinct.drop("pool"), starts, known)

    def draw(self, requests: DrawRequests, k: int, *, is_rest: bool = False) -> pl.DataFrame:
        """number, texts, sources: lists of up to k each, in the order drawn.

        Small pools are permuted whole; large ones are sampled, in the end those texts of them that
        the most common link leaves (is_rest: they are left already).
        """
        rows = requests.rows.select("number", "pool", "seed")
        rows = rows.join(self.starts, on="pool", maintain_order="left")
        is_small = pl.col("size") <= GROWTH * k
        drawn = [self._permute(requests.of(rows.filter(is_small)), k)]
        unfilled = rows.filter(~is_small)
        for number in range(ROUNDS):
            if len(unfilled):
                width = (k + SPARE) * GROWTH**number
                sampled = self._sample(requests.of(unfilled), k, width)
                drawn.append(sampled.filter(pl.col("texts").list.len() == k))
                unfilled = unfilled.join(drawn[-1], on="number", how="anti", maintain_order="left")
        is_searched = pl.lit(True) if is_rest else pl.col("size") <= SEARCHED
        drawn.append(self._permute(requests.of(unfilled.filter(is_searched)), k))
        unfilled = unfilled.filter(~is_searched)
        drawn += self._draw_from_rests(requests.of(unfilled), k)
        return pl.concat(drawn)

    def _sample(self, requests: DrawRequests, k: int, width: int) -> pl.DataFrame:
        """From `width` random positions of the pool; some repeat."""
        counter = pl.int_ranges(0, width, dtype=pl.UInt32)
        drawn = []
        for rows in _parts(requests.rows, pl.lit(width)):
            proposals = rows.with_columns(counter=counter).explode("counter")
            offset = (mixed("seed", "counter") % pl.col("size")).cast(pl.UInt32)
            positions = proposals.select("number", position=pl.col("start") + offset)
            drawn.append(self._first_allowed(positions, requests, k))
        return pl.concat(drawn)

    def _permute(self, requests: DrawRequests, k: int) -> pl.DataFrame:
        """From all positions of the pool, in random order."""
        counter = pl.int_ranges(0, "size", dtype=pl.UInt32)
        drawn = [self._first_allowed(_no_positions(), requests, k)]
        for rows in _parts(requests.rows.filter(pl.col("size") > 0), pl.col("size")):
            proposals = rows.with_columns(counter=counter).explode("counter")
            ranked = proposals.with_columns(rank=mixed("seed", "counter")).sort("number", "rank")
            positions = ranked.select("number", position=pl.col("start") + pl.col("counter"))
            drawn.append(self._first_allowed(positions, requests, k))
        return pl.concat(drawn)

    def _first_allowed(
        self, positions: pl.DataFrame, requests: DrawRequests, k: int
    ) -> pl.DataFrame:
        """The first k distinct positions of each row whose texts it may draw."""
        proposals = positions.with_columns(self._texts_at(positions))
        refused = pl.concat([requests.excluded, self.known.among(proposals)])
        allowed = proposals.join(
            refused, on=["number", "text"], how="anti", maintain_order="left"
        ).filter(pl.struct("number", "position").is_first_distinct())
        lists = allowed.group_by("number", maintain_order=True).agg(
            texts=pl.col("text").head(k), sources=pl.col("source").head(k)
        )
        return lists

    def _texts_at(self, positions: pl.DataFrame) -> list[pl.Series]:
        return self.texts.select(pl.all().gather(positions["position"])).get_columns()

    def _draw_from_rests(self, requests: DrawRequests, k: int) -> Iterator[pl.DataFrame]:
        """For rows that are linked to nearly all of a large pool.

        What rows with one link may all have is looked up once for them together.
        """
        links = self.known.links_of(requests.rows["number"])
        common = links.with_columns(rows=pl.len().over("link")).sort("number", "rows", "link")
        common = common.group_by("number", maintain_order=True).agg(pl.col("link").last())
        rows = requests.rows.join(common, on="number", how="left", maintain_order="left")
        for group in rows.partition_by("pool", "link", maintain_order=True):
            pool, start, size, link = group.select("pool", "start", "size", "link").row(0)
            texts = self.texts.slice(start, size).with_columns(link=pl.lit(link, pl.UInt64))
            if link is not None:
                is_known = matching(mixed("text", "link"), self.known.pairs)
                texts = texts.filter(~is_known)
            starts = self.starts.filter(pl.col("pool") == pool).with_columns(
                start=pl.lit(0, pl.UInt32), size=pl.lit(len(texts), pl.UInt32)
            )
            rest = TextPools(texts.drop("link"), starts, self.known)
            yield rest.draw(requests.of(group), k, is_rest=True)


def _no_positions() -> pl.DataFrame:
    return pl.DataFrame(schema={"number": pl.UInt32, "position": pl.UInt32})


def _parts(rows: pl.DataFrame, cells: pl.Expr) -> list[pl.DataFrame]:
    """Consecutive rows that have at most CELLS cells together, or one row."""
    part = cells.cast(pl.UInt64).cum_sum() // CELLS
    return rows.with_columns(part=part).partition_by("part", maintain_order=True, include_key=False)
