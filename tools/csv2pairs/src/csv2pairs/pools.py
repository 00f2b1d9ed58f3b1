"""Seeded draws of distinct texts from pools, without known answers of the example that draws.

An example may draw a text that is in its pool, none of its `excluded` texts, and that no example
linked to it has. Texts are compared by their keys, that is, after normalisation. A draw depends on
the example's seed and on the texts of its pool, so neither on the order of the file nor on blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from polars import col

from csv2pairs.keys import left_join, matching, mixed
from csv2pairs.links import LinkedTexts

SPARE = 3  # proposals more than k in the first round
GROWTH = 4  # times as many proposals in each next round; pools up to this times k are permuted
ROUNDS = 3
SEARCHED = 256  # texts of a pool that is permuted whole where sampling left an example unfilled
CELLS = 1 << 21  # proposals at once


def distinct_texts(candidates: pl.DataFrame) -> pl.DataFrame:
    """pool, text, source in order of pool and text; candidates: the same and seed.

    Of equal texts, that of the smallest seed stays.
    """
    ordered = candidates.sort("pool", "text", "seed").drop("seed")
    is_new = pl.any_horizontal(col("pool", "text") != col("pool", "text").shift())
    return ordered.filter(is_new.fill_null(True))


@dataclass(frozen=True)
class TextPools:
    """The distinct texts of each pool, in order of pool and text.

    texts: text (its key), source (the number of the text to write). starts: pool, start, size.
    """

    texts: pl.DataFrame
    starts: pl.DataFrame
    known: LinkedTexts

    @classmethod
    def from_texts(cls, texts: pl.DataFrame, known: LinkedTexts) -> TextPools:
        """texts: pool, text, source, as `distinct_texts` gives them."""
        of_pool = texts.with_row_index("start").group_by("pool", maintain_order=True)
        starts = of_pool.agg(col.start.first(), size=pl.len())
        return cls(texts.drop("pool"), starts, known)

    def draw(self, requests: pl.DataFrame, k: int, *, is_rest: bool = False) -> pl.DataFrame:
        """number, text, source: lists of up to k each, in the order drawn.

        requests: number and row (rising), pool, seed, excluded (a list of keys). Small pools are
        permuted whole; large ones are sampled, in the end those texts of them that the most common
        link leaves (is_rest: these are they).
        """
        rows = requests.join(
            self.starts,
            on="pool",
            maintain_order="left",
        )
        links = self.known.of_rows(rows["row"]).group_by("row").agg(links=pl.len())
        rows = left_join(rows, links, "row").with_columns(col.links.fill_null(0))
        size = col.size
        drawn = [self._propose(rows.filter(size <= GROWTH * k), k)]
        unfilled = rows.filter(size > GROWTH * k)
        for number in range(ROUNDS):
            if not len(unfilled):
                break
            sampled = self._propose(
                unfilled,
                k,
                width=(k + SPARE) * GROWTH**number,
            )
            filled = sampled.filter(col.text.list.len() == k)
            unfilled = unfilled.join(
                filled,
                on="number",
                how="anti",
                maintain_order="left",
            )
            drawn.append(filled)
        if not len(unfilled):
            return pl.concat(drawn)
        is_searched = pl.lit(True) if is_rest else size <= SEARCHED
        drawn.append(self._propose(unfilled.filter(is_searched), k))
        drawn += self._draw_from_rests(unfilled.filter(~is_searched), k)
        return pl.concat(drawn)

    def _propose(self, rows: pl.DataFrame, k: int, width: int | None = None) -> pl.DataFrame:
        """From `width` random positions, which may repeat; None: from all, in random order."""
        wide = rows.with_columns(width=col.size if width is None else width)
        cells = (col.width.cast(pl.UInt64) * (col.links + 1)).cum_sum()
        parts = wide.with_columns(part=cells // CELLS).partition_by("part", maintain_order=True)
        counters = pl.int_ranges(0, "width", dtype=pl.UInt32)
        random = mixed("seed", "counter")
        offset = col.counter if width is None else (random % col.size).cast(pl.UInt32)
        drawn = []
        for part in parts or [wide]:
            proposals = part.with_columns(counter=counters).explode("counter", empty_as_null=False)
            if width is None:
                proposals = proposals.with_columns(rank=random).sort("number", "rank")
            positions = proposals.select(col.start + offset).to_series()
            texts = self.texts.select(pl.all().gather(positions))
            links = self.known.of_rows(part["row"])
            drawn.append(self._first_allowed(proposals.hstack(texts), links, k))
        return pl.concat(drawn)

    def _first_allowed(self, proposals: pl.DataFrame, links: pl.DataFrame, k: int) -> pl.DataFrame:
        """The first k distinct texts of each row that it may draw; links: those of the rows."""
        is_excluded = col.excluded.list.contains(col.text)
        columns = ["number", "row", "text", "source"]
        checked = proposals.select(columns, is_excluded=is_excluded)
        allowed = checked.filter(~col.is_excluded)
        if len(links):
            known = self.known.among(allowed, links)
            allowed = allowed.join(
                known,
                on=["number", "text"],
                how="anti",
                maintain_order="left",
            )
        of_row = allowed.group_by(col.number.set_sorted(), maintain_order=True)
        return of_row.agg(col("text", "source").unique(maintain_order=True).head(k))

    def _draw_from_rests(self, rows: pl.DataFrame, k: int) -> Iterator[pl.DataFrame]:
        """For rows that are linked to nearly all of a large pool.

        What rows with one link may all have is looked up once for them together.
        """
        rows = left_join(rows.drop("links"), self.known.common_links, "row")
        groups = rows.partition_by(
            "pool",
            "link",
            maintain_order=True,
        )
        for group in groups:
            start, size, link = group.select("start", "size", "link").row(0)
            texts = self.texts.slice(start, size).with_columns(link=pl.lit(link, pl.UInt64))
            if link is not None:
                texts = texts.filter(~matching(mixed("text", "link"), self.known.pairs))
            bounds = {
                "start": pl.lit(0, pl.UInt32),
                "size": pl.lit(len(texts), pl.UInt32),
            }
            starts = group.head(1).select("pool", **bounds)
            rest = TextPools(texts.drop("link"), starts, self.known)
            yield rest.draw(
                group.drop("start", "size", "link"),
                k,
                is_rest=True,
            )
