"""Splits without leaks: rows that share a text, an id or a group stay together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from csv2pairs.array_types import Integers, Keys
from csv2pairs.key_space import KeySpace
from fletching.text_keys import ABSENT, mix


def component_labels(links: Keys) -> Keys:
    """For each row the smallest key of its component, (n,); ABSENT for rows without keys.

    links: (n, L); rows with a key in common, directly or through others, are one component. The
    label is a key, not a row number, so that it does not depend on the order of the file. Trees of
    keys are hooked under each other and halved (Shiloach and Vishkin 1982): O(log n) passes.

    >>> component_labels(np.array([[5, 7], [7, 9], [3, 0], [0, 0]], np.uint64)).tolist()
    [5, 5, 3, 0]
    """
    row, column = np.nonzero(links != ABSENT)
    names, code = np.unique(links[row, column], return_inverse=True)
    if not len(names):
        return np.full(len(links), ABSENT)
    first_code = np.full(len(links), -1, np.int64)  # of each row's first key
    first_code[row[::-1]] = code[::-1]
    parent = _roots(first_code[row], code, len(names))
    has_key = first_code >= 0
    roots = parent[np.where(has_key, first_code, 0)]
    return np.where(has_key, names[roots], ABSENT)


def _roots(one: Integers, other: Integers, nodes: int) -> Integers:
    """The smallest node that each node is connected with. one, other: int64 (e,), the edges."""
    parent = np.arange(nodes)
    while True:
        low = np.minimum(parent[one], parent[other])
        high = np.maximum(parent[one], parent[other])
        is_open = low != high
        if not is_open.any():
            return parent
        np.minimum.at(parent, high[is_open], low[is_open])
        one = one[is_open]  # the other edges are already within one component
        other = other[is_open]
        while (parent[parent] != parent).any():
            parent = parent[parent]


def assign_splits(labels: Keys, shares: Mapping[str, float], seed: int) -> Integers:
    """The number of each row's split, (n,): every component falls by its own hash."""
    hashes = mix(seed, labels, KeySpace.SPLIT)
    fractions = (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53  # in [0, 1)
    inner_edges = np.cumsum(list(shares.values()))[:-1]
    return np.searchsorted(inner_edges, fractions, side="right")
