"""Seeded draws of distinct texts from pools, without known answers of the example that draws.

An example may draw a text that is in its pool, none of its `excluded` texts, and that no example
linked to it has. Texts are compared by their keys, that is, after normalisation. A draw depends on
the example's seed and on the texts of its pool, so neither on the order of the file nor on blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from csv2pairs.keys import left_join, matching, mixed
from csv2pairs.shared_links import LinkedTexts

SPARE = 3  # proposals more than k in the first round
GROWTH = 4  # times as many proposals in each next round; pools up to this times k are permuted
ROUNDS = 3
SEARCHED = 256  # texts of a pool that is permuted whole where sampling left an example unfilled
CELLS = 1 << 21  # proposals at once


@dataclass(frozen=True)
class TextPools:
    """The distinct texts of each pool, in order of pool and text.

    texts: text (its key), source (the number of the text to write). starts: pool, start, size.
    """

    texts: pl.DataFrame
    starts: pl.DataFrame
    known: LinkedTexts

    @classmethod
    def from_candidates(cls, candidates: pl.DataFrame, known: LinkedTexts) -> TextPools:
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

    def draw(self, requests: pl.DataFrame, k: int, *, is_rest: bool = False) -> pl.DataFrame:
        """number, texts, sources: lists of up to k each, in the order drawn.

        requests: number (rising), pool, seed, excluded (a list of keys). Small pools are permuted
        whole; large ones are sampled, in the end those texts of them that the most common link
        leaves (is_rest: these are they).
        """
        rows = requests.join(self.starts, on="pool", maintain_order="left")
        is_small = pl.col("size") <= GROWTH * k
        drawn = [self._permute(rows.filter(is_small), k)]
        unfilled = rows.filter(~is_small)
        for number in range(ROUNDS):
            if len(unfilled):
                sampled = self._sample(
                    unfilled,
                    k,
                    width=(k + SPARE) * GROWTH**number,
                )
                is_filled = pl.col("texts").list.len() == k
                filled = sampled.filter(is_filled)
                drawn.append(filled)
                unfilled = unfilled.join(
                    filled,
                    on="number",
                    how="anti",
                    maintain_order="left",
                )
        is_searched = pl.lit(True) if is_rest else pl.col("size") <= SEARCHED
        drawn.append(self._permute(unfilled.filter(is_searched), k))
        drawn += self._draw_from_rests(unfilled.filter(~is_searched), k)
        return pl.concat(drawn)

    def _sample(self, rows: pl.DataFrame, k: int, width: int) -> pl.DataFrame:
        """From `width` random positions of the pool; some repeat."""
        counters = pl.int_ranges(0, width, dtype=pl.UInt32)
        offset = (mixed("seed", "counter") % pl.col("size")).cast(pl.UInt32)
        drawn = []
        for part in _parts(rows, pl.lit(width)):
            proposals = _proposals(part, counters, offset)
            drawn.append(self._first_allowed(proposals, k))
        return pl.concat(drawn)

    def _permute(self, rows: pl.DataFrame, k: int) -> pl.DataFrame:
        """From all positions of the pool, in random order."""
        counters = pl.int_ranges(0, "size", dtype=pl.UInt32)
        counter = pl.col("counter")
        filled = rows.filter(pl.col("size") > 0)
        nothing = _proposals(filled.head(0), counters, counter)
        drawn = [self._first_allowed(nothing, k)]
        for part in _parts(filled, pl.col("size")):
            proposals = _proposals(part, counters, counter)
            in_order = proposals.with_columns(rank=mixed("seed", "counter"))
            drawn.append(self._first_allowed(in_order.sort("number", "rank"), k))
        return pl.concat(drawn)

    def _first_allowed(self, proposals: pl.DataFrame, k: int) -> pl.DataFrame:
        """The first k distinct positions of each row whose texts it may draw."""
        texts = self.texts.select(pl.all().gather(proposals["position"]))
        is_excluded = pl.col("excluded").list.contains(pl.col("text"))
        number = pl.col("number").set_sorted()
        proposals = proposals.hstack(texts).filter(~is_excluded)
        known = self.known.among(proposals)
        if len(known):
            proposals = proposals.join(
                known,
                on=["number", "text"],
                how="anti",
                maintain_order="left",
            )
        pair = number.cast(pl.UInt64) * 2**32 + pl.col("position")
        distinct = proposals.filter(pair.is_first_distinct()).with_columns(number)
        of_row = distinct.group_by("number", maintain_order=True)
        return of_row.agg(
            texts=pl.col("text").head(k),
            sources=pl.col("source").head(k),
        )

    def _draw_from_rests(self, rows: pl.DataFrame, k: int) -> Iterator[pl.DataFrame]:
        """For rows that are linked to nearly all of a large pool.

        What rows with one link may all have is looked up once for them together.
        """
        links = self.known.links_of(rows["number"])
        counted = links.with_columns(rows=pl.len().over("link"))
        ordered = counted.sort("number", "rows", "link")
        of_row = ordered.group_by("number", maintain_order=True)
        common = of_row.agg(pl.col("link").last())
        rows = left_join(rows, common, "number")
        for group in rows.partition_by("pool", "link", maintain_order=True):
            start, size, link = group.select("start", "size", "link").row(0)
            texts = self.texts.slice(start, size)
            texts = texts.with_columns(link=pl.lit(link, pl.UInt64))
            if link is not None:
                pair = mixed("text", "link")
                texts = texts.filter(~matching(pair, self.known.pairs))
            zero = pl.lit(0, pl.UInt32)
            left = pl.lit(len(texts), pl.UInt32)
            bounds = group.head(1).select("pool", start=zero, size=left)
            rest = TextPools(texts.drop("link"), bounds, self.known)
            yield rest.draw(group.drop("start", "size", "link"), k, is_rest=True)


def _proposals(rows: pl.DataFrame, counters: pl.Expr, offset: pl.Expr) -> pl.DataFrame:
    """number, seed, excluded, counter and the position in `texts`, a row for each counter."""
    rows = rows.with_columns(counter=counters).explode("counter")
    return rows.with_columns(position=pl.col("start") + offset)


def _parts(rows: pl.DataFrame, cells: pl.Expr) -> list[pl.DataFrame]:
    """Consecutive rows that have at most CELLS cells together, or one row."""
    part = cells.cast(pl.UInt64).cum_sum() // CELLS
    return rows.with_columns(part=part).partition_by(
        "part",
        maintain_order=True,
        include_key=False,
    )
