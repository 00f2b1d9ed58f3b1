"""Links of examples: those with one in common share a split and draw nothing from each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl
from polars import col

from csv2pairs.keys import ABSENT, KeySpace, matching, mixed
from csv2pairs.options import Options
from csv2pairs.stored_pairs import StoredBlocks
from fletching.report import Report
from fletching.table import KeySet

LARGE_SHARE = 0.05  # of all rows in one component: from here on splits may miss their shares
FEW_ROWS = 20  # with fewer, shares are missed anyway


def links_of(pairs: StoredBlocks, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """(number, link) of all links, a block at a time. columns: of keys or lists of keys."""
    for block in pairs.frames(columns):
        links = block.select("number", link=pl.concat_list(columns))
        yield links.explode("link").filter(col.link != ABSENT)


def shared_links(pairs: StoredBlocks, columns: Sequence[str]) -> pl.DataFrame:
    """(number, link) of every link that comes up more than once, in order of numbers.

    Most links are one example's alone and connect nothing: they are sorted once and left out.
    """
    links = np.concatenate([block["link"].to_numpy() for block in links_of(pairs, columns)])
    links.sort()
    keys = KeySet(links[1:][links[1:] == links[:-1]])
    del links
    shared = [block.filter(matching(col.link, keys)).unique() for block in links_of(pairs, columns)]
    return pl.concat(shared).sort("number", "link")


def component_labels(pairs: StoredBlocks, columns: Sequence[str]) -> pl.Series:
    """The smallest key of the component of each example, (n,).

    Examples with a link in common, directly or through others, are one component. The label is a
    key, not a number, so that it does not depend on the order of the file.
    """
    smallest = (
        links.group_by(col.number.set_sorted(), maintain_order=True).agg(col.link.min())
        for links in links_of(pairs, columns)
    )
    labels = pl.concat([block["link"] for block in smallest])
    shared = shared_links(pairs, columns)
    if not len(shared):
        return labels
    merged = shared.select(
        "number", component=_components(shared), label=labels.gather(shared["number"])
    ).with_columns(col.label.min().over("component"))
    return labels.scatter(merged["number"], merged["label"])


def _components(shared: pl.DataFrame) -> pl.Series:
    """The number of the connected component of each (number, link)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes = shared.select(pl.all().rank("dense").cast(pl.Int64) - 1)
    examples = codes["number"].to_numpy()
    links = codes["link"].to_numpy() + examples.max() + 1
    nodes = int(links.max()) + 1
    edges = coo_array((np.ones(len(links), np.int8), (examples, links)), shape=(nodes, nodes))
    labels = connected_components(edges, directed=False)[1]
    return pl.Series(labels[examples])


class LinkedTexts:
    """Which texts examples linked to an example have: they are no negatives of it.

    links: (number, link), as `shared_links` gives them. holders: (number, text) of all texts that
    may be drawn, in blocks.
    """

    def __init__(self, links: pl.DataFrame, holders: Iterable[pl.DataFrame]) -> None:
        self.links = links
        linked = [block.join(links, on="number") for block in holders] if len(links) else []
        keys = [block.select(key=mixed("text", "link"))["key"].to_numpy() for block in linked]
        self.pairs = KeySet(np.concatenate([np.zeros(0, np.uint64), *keys]))

    def links_of(self, numbers: pl.Series) -> pl.DataFrame:
        """The shared links of examples; numbers: rising."""
        if not len(numbers):
            return self.links.head(0)
        first = self.links["number"].search_sorted(numbers[0])
        last = self.links["number"].search_sorted(numbers[-1], side="right")
        of_range = self.links.slice(first, last - first)
        return of_range.filter(col.number.is_in(numbers.implode()))

    def among(self, proposals: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
        """Those (number, text) that are known answers; links: `links_of` their numbers."""
        linked = proposals.select("number", "text").join(links, on="number")
        is_known = matching(mixed("text", "link"), self.pairs)
        return linked.filter(is_known).select("number", "text")


def split_pairs(
    pairs: StoredBlocks, shares: Mapping[str, float], *, options: Options, report: Report
) -> pl.Series:
    """The number of each example's split, (n,): every component falls by its own hash.

    shares: of the splits, by name; {} for one split.
    """
    if not shares:
        return pl.zeros(len(pairs), pl.UInt16, eager=True)
    of_group = ["pos_keys"] if options.mode == "group" else []  # where a row has one text
    labels = component_labels(pairs, ["links", "split_links", *of_group])
    _measure_largest_component(labels, report)
    hashes = pl.select(label=labels).select(mixed(options.seed, "label", KeySpace.SPLIT))
    fractions = hashes.to_series().to_numpy() // 2**11 / 2.0**53  # in [0, 1)
    inner_edges = np.cumsum(list(shares.values()))[:-1]
    numbers = np.searchsorted(inner_edges, fractions, side="right")
    return pl.Series(numbers, dtype=pl.UInt16)


def _measure_largest_component(labels: pl.Series, report: Report) -> None:
    """Why the splits may not have their shares: many rows are linked by common texts."""
    rows = len(labels)
    largest = int(labels.value_counts()["count"].to_numpy().max(initial=0))
    report.measures["largest_group_of_tied_rows"] = largest
    if largest > max(1, LARGE_SHARE * rows) and rows >= FEW_ROWS:
        report.note(
            f"{largest:,} of {rows:,} rows are connected by shared texts "
            "and stay in one split; shares may be missed"
        )
