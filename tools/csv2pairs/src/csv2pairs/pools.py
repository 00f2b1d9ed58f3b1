"""Seeded draws of distinct texts from pools, without known answers of the example that draws.

An example may draw a text that is in its pool, none of its `excluded` texts, and that no example
linked to it has. Texts are compared by their keys, that is, after normalisation. A draw depends on
the example's seed and on the texts of its pool, so neither on the order of the file nor on blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from polars import DataFrame, col

from csv2pairs.keys import ABSENT, left_join, matching, mixed
from csv2pairs.links import LinkedTexts

SPARE = 3  # proposals more than k in the first round
GROWTH = 4  # times as many proposals in each next round; pools up to this times k are permuted
ROUNDS = 3
SEARCHED = 256  # texts of a pool that is permuted for each row where sampling left it unfilled
CELLS = 1 << 21  # proposals at once


def distinct_texts(candidates: DataFrame) -> DataFrame:
    """pool, text, source in order of pool and text; candidates: the same and seed.

    Of equal texts, that of the smallest seed stays.
    """
    ordered = candidates.sort("pool", "text", "seed").drop("seed")
    text = col("pool", "text")
    is_new = pl.any_horizontal(text != text.shift())
    return ordered.filter(is_new.fill_null(True))


class TextPools:
    """The distinct texts of each pool, in order of pool and text.

    texts: pool, text (its key) and source (the number of the text to write) as `distinct_texts`
    gives them. linked: which of them rows may not draw.
    """

    def __init__(self, texts: DataFrame, linked: LinkedTexts) -> None:
        of_pool = texts.with_row_index("start").group_by("pool", maintain_order=True)
        self.starts = of_pool.agg(col.start.first(), size=pl.len())
        self.texts = texts.drop("pool")
        self.linked = linked

    def draw(self, requests: DataFrame, k: int) -> DataFrame:
        """number, text, source: lists of up to k each, in the order drawn.

        requests: number and row (rising), pool, seed, excluded (a list of keys). Small pools are
        permuted; large ones are sampled, and permuted where samples leave an example unfilled.
        """
        rows = requests.join(
            self.starts,
            on="pool",
            maintain_order="left",
        )
        rows = self.linked.with_links(rows)
        is_small = col.size <= GROWTH * k
        drawn = [self._propose(rows.filter(is_small), k)]
        rows = rows.filter(~is_small)
        for number in range(ROUNDS):
            if not len(rows):
                return pl.concat(drawn)
            width = (k + SPARE) * GROWTH**number
            sampled = self._propose(rows, k, width)
            filled = sampled.filter(col.text.list.len() == k)
            rows = rows.join(
                filled,
                on="number",
                how="anti",
                maintain_order="left",
            )
            drawn.append(filled)
        is_searched = col.size <= SEARCHED
        drawn.append(self._propose(rows.filter(is_searched), k))
        drawn += self._permute_rests(rows.filter(~is_searched), k)
        return pl.concat(drawn)

    def _propose(self, rows: DataFrame, k: int, width: int | None = None) -> DataFrame:
        """From `width` random positions, which may repeat; None: from all, in random order."""
        wide = rows.with_columns(width=col.size if width is None else width)
        cells = col.width.cast(pl.UInt64) * (col.links.list.len() + 1)
        numbered = wide.with_columns(part=cells.cum_sum() // CELLS)
        parts = numbered.partition_by("part", maintain_order=True)
        counters = pl.int_ranges(0, "width", dtype=pl.UInt32)
        drawn = []
        for part in parts or [wide]:
            proposals = part.with_columns(counter=counters)
            proposals = proposals.explode("counter", empty_as_null=False)
            proposals = proposals.with_columns(random=mixed("seed", "counter"))
            offset = (col.random % col.size).cast(pl.UInt32)
            if width is None:
                proposals = proposals.sort("number", "random")
                offset = col.counter
            positions = proposals.select(col.start + offset).to_series()
            texts = self.texts.select(pl.all().gather(positions))
            drawn.append(self._first_allowed(proposals.hstack(texts), k))
        return pl.concat(drawn)

    def _permute_rests(self, rows: DataFrame, k: int) -> Iterator[DataFrame]:
        """From all, in random order, for rows that are linked to nearly all of a large pool.

        What rows with one link may all have is looked up once for them together.
        """
        rows = left_join(rows, self.linked.common_links, "row")
        rows = rows.with_columns(col.link.fill_null(ABSENT))
        for group in rows.partition_by("pool", "link", maintain_order=True):
            start, size, link = group.select("start", "size", "link").row(0)
            texts = self.texts.slice(start, size).with_row_index("counter")
            rest = texts.filter(~matching(mixed("text", link), self.linked.pairs))
            most_links = group.select(col.links.list.len().max()).item()
            cells = len(rest) * (most_links + 1)  # of each row
            for part in group.iter_slices(CELLS // (cells + 1) + 1):
                proposals = part.join(rest, how="cross")
                ordered = proposals.sort("number", mixed("seed", "counter"))
                yield self._first_allowed(ordered, k)

    def _first_allowed(self, proposals: DataFrame, k: int) -> DataFrame:
        """The first k distinct texts that each example may draw."""
        is_excluded = col.excluded.list.contains(col.text)
        columns = ("number", "text", "source", "links")
        allowed = proposals.lazy().filter(~is_excluded).select(columns).collect()
        is_known = matching(mixed("text", "links"), self.linked.pairs)
        known = allowed.explode("links", empty_as_null=False).filter(is_known)
        if len(known):
            allowed = allowed.join(
                known,
                on=["number", "text"],
                how="anti",
                maintain_order="left",
            )
        of_row = allowed.group_by(col.number.set_sorted(), maintain_order=True)
        return of_row.agg(col("text", "source").unique(maintain_order=True).head(k))
