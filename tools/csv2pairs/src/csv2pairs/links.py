"""Links of rows: rows with one in common share a split and draw nothing from each other.

A link is the key of something that a row has; all examples of the row have it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from functools import cached_property

import numpy as np
import polars as pl
from polars import DataFrame, Series, col, lit

from csv2pairs.examples import SPLIT
from csv2pairs.keys import ABSENT, KeySpace, hashed, left_join, matching, mixed, moved, ranges_of
from csv2pairs.options import Options
from csv2pairs.stored_pairs import StoredFrames, StoredPairs
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
    """What links are keys of; each use minds those up to one of them."""

    TEXT = 0  # the query; but for --mode group the positives
    CATEGORY = 1  # in --mode group
    ID = 2
    SPLIT = 3  # what keeps rows in one split, and lets them draw from each other


def links_of(examples: DataFrame, positives: DataFrame, options: Options) -> DataFrame:
    """row, link, kind of the rows of these examples; positives: row, key and category_key."""
    is_group = options.mode == "group"
    if options.category_positive:
        # The name of a category links no rows: it is what they differ from others by.
        positives = positives.filter(col.key != col.category_key)
    positives = positives.join(
        examples,
        on="row",
        how="semi",
    )
    rows = examples.filter(col.row.is_first_distinct())
    # The query of each example: where a row has several, its own texts are shared.
    links = [
        (LinkKind.TEXT, examples, col.query_key),
        (LinkKind.SPLIT if is_group else LinkKind.TEXT, positives, col.key),
    ]
    if is_group:
        links.append((LinkKind.CATEGORY, rows, moved(col.category_key, KeySpace.CATEGORY)))
    if options.id:
        links.append((LinkKind.ID, rows, moved(col.id_key, KeySpace.ID)))
    if options.texts_template:
        links.append((LinkKind.SPLIT, rows, moved(hashed("row_text"), KeySpace.ROW_TEXT)))
    for number in range(len(options.split_by)):
        key = moved(hashed(f"{SPLIT}{number}"), KeySpace.SPLIT_BY + number)
        links.append((LinkKind.SPLIT, rows, key))
    frames = [
        frame.select(
            "row",
            link=link,
            kind=lit(kind, pl.UInt8),
        )
        for kind, frame, link in links
    ]
    return pl.concat(frames).filter(col.link != ABSENT)


def shared_links(links: StoredFrames, last: LinkKind) -> DataFrame:
    """(row, link) of every link up to this kind that comes up more than once, in order of rows.

    Most links are one row's alone and connect nothing: they are sorted once and left out.
    """
    repeated = []
    for is_in_range in ranges_of("link", len(links)):
        is_wanted = is_in_range & (col.kind <= last)
        frames = links.frames("link", "kind")
        keys = pl.concat([frame.filter(is_wanted)["link"] for frame in frames])
        keys = keys.sort()
        repeated.append(keys.filter(keys == keys.shift()))
    is_repeated = matching(col.link, KeySet(pl.concat(repeated).to_numpy()))
    shared = [
        frame.filter(col.kind <= last).filter(is_repeated).select("row", "link").unique()
        for frame in links.frames("row", "link", "kind")
    ]
    return pl.concat(shared).sort("row", "link")


def component_labels(links: StoredFrames, rows: int) -> Keys:
    """The smallest link of the component of each of so many rows, and one entry more.

    Rows with a link in common, directly or through others, are one component. The label is a key,
    not a number, so that it does not depend on the order of the file.
    """
    shared = shared_links(links, LinkKind.SPLIT)
    components = np.arange(rows + 1)
    if len(shared):
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        first_row = col.row.first().over("link")
        edges = shared.select("row", first=first_row).to_numpy().T
        is_edge = np.ones(len(shared), np.int8)
        graph = coo_array((is_edge, edges), shape=(rows + 1, rows + 1))
        components = connected_components(graph, directed=False)[1]
    labels = np.full(rows + 1, np.iinfo(np.uint64).max, np.uint64)
    for frame in links.frames("row", "link"):
        of_frame = components[frame["row"].to_numpy()]
        np.minimum.at(labels, of_frame, frame["link"].to_numpy())
    of_rows: Keys = labels[components]
    return of_rows


class LinkedTexts:
    """Which texts rows linked to a row have: they are no negatives of its examples.

    links: (row, link), as `shared_links` gives them. holders: (row, text) of all texts that may be
    drawn, in frames. Raises InputError for a row of which all would not fit the memory.
    """

    def __init__(self, links: DataFrame, holders: Iterable[DataFrame]) -> None:
        self.links = links.group_by("row", maintain_order=True).agg(links="link")
        keys = [part for frame in holders for part in self._pairs_of(frame)] if len(links) else []
        self.pairs = KeySet(np.concatenate([np.zeros(0, np.uint64), *keys]))

    def _pairs_of(self, holders: DataFrame) -> Iterator[Keys]:
        """The keys of (text, link) of rows that have both."""
        linked = self.with_links(holders)
        count = col.links.list.len().cast(pl.UInt64)
        of_row = linked.group_by("row", maintain_order=True).agg(pairs=count.sum())
        for row, pairs in of_row.filter(col.pairs > MOST_KNOWN).iter_rows():
            raise InputError(
                f"row {row + 1:,} of the table shares so many texts with other rows that "
                f"{pairs:,} pairs of texts are no negatives of each other",
                "split the row, or leave out texts that many rows have",
            )
        part = count.cum_sum() // KNOWN_AT_ONCE
        for rows in linked.with_columns(part=part).partition_by("part"):
            pairs = rows.explode("links", empty_as_null=False)
            yield pairs.select(mixed("text", "links")).to_series().to_numpy()

    def with_links(self, rows: DataFrame) -> DataFrame:
        """Rows, in rising order of `row`, with the list of their shared links."""
        is_near = col.row.is_between(rows["row"].min(), rows["row"].max())
        linked = left_join(rows, self.links.filter(is_near), "row")
        return linked.with_columns(col.links.fill_null([]))

    @cached_property
    def common_links(self) -> DataFrame:
        """row, link: of the shared links of each row, the one that most rows have."""
        links = self.links.explode("links").with_columns(rows=pl.len().over("links"))
        return links.sort("rows").group_by("row").agg(link=col.links.last())


def split_pairs(
    pairs: StoredPairs,
    shares: Mapping[str, float],
    *,
    seed: int,
    report: Report,
) -> Series:
    """The number of each example's split, (n,): every component falls by its own hash.

    shares: of the splits, by name; {} for one split. Notes why shares may be missed.
    """
    count = len(pairs.examples)
    if not shares:
        return pl.zeros(count, pl.UInt32, eager=True)
    rows = pl.concat([frame["row"] for frame in pairs.examples.frames("row")]).to_numpy()
    labels = component_labels(pairs.links, report.rows_in)[rows]
    largest = int(np.unique(labels, return_counts=True)[1].max(initial=0))
    report.measures["largest_group_of_tied_rows"] = largest
    if largest > max(1, LARGE_SHARE * count) and count >= FEW_ROWS:
        report.note(
            f"{largest:,} of {count:,} rows are connected by shared texts "
            "and stay in one split; shares may be missed"
        )
    fractions = mix(seed, labels, KeySpace.SPLIT) // np.uint64(2**11) / 2.0**53  # in [0, 1)
    inner_edges = np.cumsum(list(shares.values()))[:-1]
    numbers = np.searchsorted(inner_edges, fractions, side="right")
    return Series(numbers, dtype=pl.UInt32)
