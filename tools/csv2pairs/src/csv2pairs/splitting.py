"""Splits through which nothing leaks: rows that share a text, an id or a group stay together."""

from __future__ import annotations

import numpy as np

from fletching.text_keys import ABSENT, mix


def components(links: np.ndarray) -> np.ndarray:
    """For each row the smallest key of its component, uint64 (n,).

    links: uint64 (n, L); rows with a key in common, directly or through others, are one component.
    The label is a key, not a row number, so that it does not depend on the order of the file. Trees of
    keys are hooked under each other and halved, as by Shiloach and Vishkin (1982): O(log n) passes.
    """
    row, column = np.nonzero(links != ABSENT)
    names, code = np.unique(links[row, column], return_inverse=True)
    first = np.full(len(links), -1, np.int64)  # of each row the code of its first key
    first[row[::-1]] = code[::-1]
    parent = np.arange(len(names))
    one, other = first[row], code
    while True:
        low, high = np.minimum(parent[one], parent[other]), np.maximum(parent[one], parent[other])
        apart = low != high
        if not apart.any():
            break
        np.minimum.at(parent, high[apart], low[apart])
        one, other = one[apart], other[apart]  # the rest hangs together for good
        while (parent[parent] != parent).any():
            parent = parent[parent]
    lonely = first < 0
    return np.where(
        lonely, ABSENT, names[parent[np.where(lonely, 0, first)]] if len(names) else ABSENT
    )


def assign(labels: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """The number of each row's split, int64 (n,): every component falls by its own hash."""
    position = (mix(seed, labels, 0x5B117) >> np.uint64(11)).astype(np.float64) / 2.0**53  # [0, 1)
    edges = np.cumsum(list(shares.values()))[:-1]
    return np.searchsorted(edges, position, side="right")
