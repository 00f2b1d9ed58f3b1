"""Links of rows: rows with one in common share a split and draw nothing from each other.

A link is the key of something that a row has; all examples of the row have it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from functools import cached_property

import numpy as np
import polars as pl
from polars import col

from csv2pairs.keys import (
    ABSENT,
    KeySpace,
    matching,
    mixed,
    ranges_of,
)
from csv2pairs.options import Options
from csv2pairs.rows import SPLIT
from csv2pairs.stored_pairs import StoredBlocks, StoredPairs
from fletching.errors import InputError
from fletching.report import Report
from fletching.table import KeySet
from fletching.table.key_set import Keys
from fletching.text_keys import mix

LARGE_SHARE = 0.05  # of all rows in one component: from here on splits may miss their shares
FEW_ROWS = 20  # with fewer, shares are missed anyway
MOST_KNOWN = 1 << 26  # texts of a row times its shared links: 8 bytes each
KNOWN_AT_ONCE = 1 << 22


class LinkKind(IntEnum):
    """What links are keys of, in an order in which each use minds a range of them."""

    ROW = 0  # of a row with several examples; minded by draws alone
    TEXT = 1  # the query; but for --mode group the positives
    CATEGORY = 2  # in --mode group
    ID = 3
    SPLIT = 4  # what keeps rows in one split, and lets them draw from each other


KINDS = {
    "query_key": LinkKind.TEXT,
    "category_link": LinkKind.CATEGORY,
    "id_link": LinkKind.ID,
}


def links_of(examples: pl.DataFrame, positives: pl.DataFrame, options: Options) -> pl.DataFrame:
    """row, link, kind of the rows of these examples; positives: row, key and category_key."""
    if options.category_positive:
        # The name of a category links no rows: it is what they differ from others by.
        positives = positives.filter(col.key != col.category_key)
    links = positives.join(examples, on="row", how="semi").select("row", link="key")
    of_texts = LinkKind.SPLIT if options.mode == "group" else LinkKind.TEXT
    parts = [links.with_columns(kind=pl.lit(of_texts, pl.UInt8))]
    for name in examples.columns:
        if name in KINDS or name.startswith(SPLIT):
            kind = pl.lit(KINDS.get(name, LinkKind.SPLIT), pl.UInt8)
            parts.append(examples.select("row", link=name, kind=kind))
    links = pl.concat(parts).filter(col.link != ABSENT)
    several = examples.filter(col.row.is_duplicated())
    if not len(several):
        return links
    kind = pl.lit(LinkKind.ROW, pl.UInt8)
    of_row = several.select("row", link=mixed(KeySpace.ROW, "row"), kind=kind)
    return pl.concat([links.unique(), of_row])


def shared_links(links: StoredBlocks, first: LinkKind, last: LinkKind) -> pl.DataFrame:
    """(row, link) of every link of these kinds that comes up more than once, in order of rows.

    Most links are one row's alone and connect nothing: they are sorted once and left out.
    """
    is_wanted = col.kind.is_between(first, last)
    repeated = []
    for is_in_range in ranges_of("link", len(links)):
        blocks = [block.filter(is_wanted, is_in_range)["link"] for block in links.frames()]
        keys = np.concatenate([block.to_numpy() for block in blocks])
        keys.sort()
        repeated.append(keys[1:][keys[1:] == keys[:-1]])
    is_repeated = matching(col.link, KeySet(np.concatenate(repeated)))
    shared = [block.filter(is_wanted).filter(is_repeated) for block in links.frames()]
    return pl.concat([block.select("row", "link").unique() for block in shared]).sort("row", "link")


def component_labels(links: StoredBlocks, rows: int) -> Keys:
    """The smallest link of the component of each of so many rows, and one entry more.

    Rows with a link in common, directly or through others, are one component. The label is a key,
    not a number, so that it does not depend on the order of the file.
    """
    smallest = _maxima(rows + 1)  # scipy takes no matrix without rows
    for block in links.frames():
        others = block.filter(col.kind != LinkKind.ROW)
        np.minimum.at(smallest, others["row"].to_numpy(), others["link"].to_numpy())
    shared = shared_links(links, LinkKind.TEXT, LinkKind.SPLIT)
    if not len(shared):
        return smallest

    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = shared.select("row", first=col.row.first().over("link")).to_numpy().T
    is_edge = np.ones(len(shared), np.int8)
    graph = coo_array((is_edge, edges), shape=(rows + 1, rows + 1))
    components = connected_components(graph, directed=False)[1]
    labels = _maxima(rows + 1)
    np.minimum.at(labels, components, smallest)
    of_rows: Keys = labels[components]
    return of_rows


def _maxima(count: int) -> Keys:
    return np.full(count, np.iinfo(np.uint64).max, np.uint64)


class LinkedTexts:
    """Which texts rows linked to a row have: they are no negatives of its examples.

    links: (row, link), as `shared_links` gives them. holders: (row, text) of all texts that may be
    drawn, in blocks. Raises InputError for a row of which all would not fit the memory.
    """

    def __init__(self, links: pl.DataFrame, holders: Iterable[pl.DataFrame]) -> None:
        self.links = links
        keys = [part for block in holders for part in self._pairs_of(block)] if len(links) else []
        self.pairs = KeySet(np.concatenate([np.zeros(0, np.uint64), *keys]))

    def _pairs_of(self, holders: pl.DataFrame) -> Iterator[Keys]:
        """The keys of (text, link) of rows that have both."""
        links = self.of_rows(holders["row"])
        counts = links.group_by("row").agg(links=pl.len().cast(pl.UInt64))
        counted = holders.join(counts, on="row", maintain_order="left")
        of_row = counted.group_by("row", maintain_order=True).agg(col.links.sum())
        for row, pairs in of_row.filter(col.links > MOST_KNOWN).iter_rows():
            raise InputError(
                f"row {row + 1:,} of the table shares so many texts with other rows that "
                f"{pairs:,} pairs of texts are no negatives of each other",
                "split the row, or leave out texts that many rows have",
            )
        part = col.links.cum_sum() // KNOWN_AT_ONCE
        for rows in counted.with_columns(part=part).partition_by("part"):
            yield rows.join(links, on="row").select(key=mixed("text", "link"))["key"].to_numpy()

    def of_rows(self, rows: pl.Series) -> pl.DataFrame:
        """The shared links of rows; rows: rising."""
        if not len(rows):
            return self.links.head(0)
        first = self.links["row"].search_sorted(rows[0])
        last = self.links["row"].search_sorted(rows[-1], side="right")
        return self.links.slice(first, last - first).filter(col.row.is_in(rows.implode()))

    def among(self, proposals: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
        """Those (number, text) that are known answers; links: `of_rows` of the proposals."""
        linked = proposals.select("row", "number", "text").join(links, on="row")
        is_known = matching(mixed("text", "link"), self.pairs)
        return linked.filter(is_known).select("number", "text")

    @cached_property
    def common_links(self) -> pl.DataFrame:
        """row, link: of the shared links of each row, the one that most rows have."""
        counted = self.links.with_columns(rows=pl.len().over("link"))
        of_row = counted.sort("row", "rows", "link").group_by("row", maintain_order=True)
        return of_row.agg(col.link.last())


def split_pairs(
    pairs: StoredPairs, shares: Mapping[str, float], *, seed: int, report: Report
) -> pl.Series:
    """The number of each example's split, (n,): every component falls by its own hash.

    shares: of the splits, by name; {} for one split.
    """
    if not shares:
        return pl.zeros(len(pairs.keys), pl.UInt16, eager=True)
    rows = np.concatenate([block["row"].to_numpy() for block in pairs.keys.frames()])
    labels = component_labels(pairs.links, report.rows_in)[rows]
    _measure_largest_component(labels, report)
    fractions = mix(seed, labels, KeySpace.SPLIT) // np.uint64(2**11) / 2.0**53  # in [0, 1)
    inner_edges = np.cumsum(list(shares.values()))[:-1]
    numbers = np.searchsorted(inner_edges, fractions, side="right")
    return pl.Series(numbers, dtype=pl.UInt16)


def _measure_largest_component(labels: Keys, report: Report) -> None:
    """Why the splits may not have their shares: many rows are linked by common texts."""
    rows = len(labels)
    largest = int(np.unique(labels, return_counts=True)[1].max(initial=0))
    report.measures["largest_group_of_tied_rows"] = largest
    if largest > max(1, LARGE_SHARE * rows) and rows >= FEW_ROWS:
        report.note(
            f"{largest:,} of {rows:,} rows are connected by shared texts "
            "and stay in one split; shares may be missed"
        )
