"""Splits without leaks: examples that share a text, an id or a group stay together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from csv2pairs.keys import KeySpace, mixed
from csv2pairs.options import Options
from csv2pairs.shared_links import component_labels
from csv2pairs.stored_pairs import StoredPairs
from fletching.report import Report

LARGE_SHARE = 0.05  # of all rows in one component: from here on splits may miss their shares
FEW_ROWS = 20  # with fewer, shares are missed anyway


def split_pairs(
    pairs: StoredPairs, shares: Mapping[str, float], *, options: Options, report: Report
) -> pl.Series:
    """The number of each example's split, (n,). shares: of the splits, by name; {} for one."""
    if not shares:
        return pl.zeros(len(pairs), pl.UInt16, eager=True)
    links = ["links", "id_link", "split_links"]
    if options.mode == "group":  # where a row has one text
        links.append("pos_keys")
    labels = component_labels(pairs, links)
    _measure_largest_component(labels, report)
    return assign_splits(labels, shares, options.seed)


def assign_splits(labels: pl.Series, shares: Mapping[str, float], seed: int) -> pl.Series:
    """The number of each example's split, (n,): every component falls by its own hash."""
    inner_edges = np.cumsum(list(shares.values()))[:-1]
    frame = labels.rename("label").to_frame()
    hashes = mixed(seed, "label", KeySpace.SPLIT)
    fractions = frame.select(hashes // 2**11 / 2.0**53)  # in [0, 1)
    beyond = np.searchsorted(
        inner_edges,
        fractions.to_series().to_numpy(),
        side="right",
    )
    return pl.Series("split", beyond, pl.UInt16)


def _measure_largest_component(labels: pl.Series, report: Report) -> None:
    """Why the splits may not have their shares: many rows are linked by common texts."""
    rows = len(labels)
    sizes = labels.value_counts()["count"].to_numpy()
    largest = int(sizes.max(initial=0))
    report.measures["largest_group_of_tied_rows"] = largest
    if largest > max(1, LARGE_SHARE * rows) and rows >= FEW_ROWS:
        report.note(
            f"{largest:,} of {rows:,} rows are connected by shared texts "
            "and stay in one split; shares may be missed"
        )
