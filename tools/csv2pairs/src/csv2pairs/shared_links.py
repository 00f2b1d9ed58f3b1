"""Links that several examples have: they stay in one split, and draw nothing from each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from csv2pairs.keys import ABSENT, matching, mixed
from csv2pairs.stored_pairs import StoredPairs
from fletching.table import KeySet


def shared_links(pairs: StoredPairs, columns: Sequence[str]) -> pl.DataFrame:
    """(number, link) of every link that comes up more than once, in order of numbers.

    columns: of keys or lists of keys. Most links are one example's alone and connect nothing:
    they are sorted once and left out.
    """
    link = pl.col("link")
    links = pl.concat([block["link"] for block in _links(pairs, columns)])
    repeated = links.sort().to_frame().filter(link == link.shift())
    del links
    keys = KeySet(repeated["link"].to_numpy())
    return pl.concat(
        [block.filter(matching(link, keys)).unique() for block in _links(pairs, columns)]
    ).sort("number", "link")


def _links(pairs: StoredPairs, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """(number, link) of all links, a block at a time."""
    for block in pairs.frames(columns):
        links = block.select("number", link=pl.concat_list(columns))
        yield links.explode("link").filter(pl.col("link") != ABSENT)


def component_labels(pairs: StoredPairs, columns: Sequence[str]) -> pl.Series:
    """The smallest key of the component of each example, (n,).

    Examples with a link in common, directly or through others, are one component. The label is a
    key, not a number, so that it does not depend on the order of the file.
    """
    smallest = pl.col("link").min()
    labels = pl.concat(
        [
            links.group_by("number", maintain_order=True).agg(smallest)["link"]
            for links in _links(pairs, columns)
        ]
    )
    shared = shared_links(pairs, columns)
    if len(shared):
        merged = shared.select(
            "number", component=_components(shared), label=labels.gather(shared["number"])
        ).with_columns(pl.col("label").min().over("component"))
        labels = labels.scatter(merged["number"], merged["label"])
    return labels


def _components(shared: pl.DataFrame) -> pl.Series:
    """The number of the connected component of each (number, link)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    examples = _codes(shared["number"])
    links = _codes(shared["link"]) + examples.max() + 1
    nodes = int(links.max()) + 1
    ones = np.ones(len(links), np.int8)
    edges = coo_array(
        (ones, (examples, links)),
        shape=(nodes, nodes),
    )
    labels = connected_components(edges, directed=False)[1]
    return pl.Series(labels[examples])


def _codes(values: pl.Series) -> np.ndarray:
    """0, 1, … for the distinct values, in their order."""
    return (values.rank("dense").cast(pl.Int64) - 1).to_numpy()


class LinkedTexts:
    """Which texts examples linked to an example have: they are no negatives of it.

    links: (number, link), as `shared_links` gives them. holders: (number, text) of all texts that
    may be drawn, in blocks.
    """

    def __init__(self, links: pl.DataFrame, holders: Iterator[pl.DataFrame]) -> None:
        self.links = links
        keys = [
            block.join(links, on="number").select(key=mixed("text", "link"))["key"].to_numpy()
            for block in holders
        ]
        self.pairs = KeySet(np.concatenate(keys))

    def links_of(self, numbers: pl.Series) -> pl.DataFrame:
        """The shared links of examples; numbers: rising."""
        if not len(numbers):
            return self.links.head(0)
        first = self.links["number"].search_sorted(numbers[0])
        last = self.links["number"].search_sorted(numbers[-1], side="right")
        of_range = self.links.slice(first, last - first)
        return of_range.filter(pl.col("number").is_in(numbers.implode()))

    def among(self, proposals: pl.DataFrame) -> pl.DataFrame:
        """Those (number, text) that are known answers; proposals: their numbers rising."""
        texts = proposals.select("number", "text")
        if not len(self.links):
            return texts.head(0)
        links = self.links_of(proposals["number"].unique(maintain_order=True))
        linked = texts.join(links, on="number").with_columns(key=mixed("text", "link"))
        is_known = matching(pl.col("key"), self.pairs)
        known = linked.filter(is_known)
        return known.select("number", "text")
