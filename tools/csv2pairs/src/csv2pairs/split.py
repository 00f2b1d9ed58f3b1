"""Splits through which nothing leaks: rows that share a text, an id or a group stay together."""

from __future__ import annotations

import numpy as np

from fletching.keys import ABSENT, mix


def components(links: np.ndarray) -> np.ndarray:
    """For each row the smallest key of its component, uint64 (n,).

    links: uint64 (n, L); rows with a key in common, directly or through others, are one component.
    The label is a key, not a row number, so that it does not depend on the order of the file.
    """
    rows, columns = np.nonzero(links != ABSENT)
    names, codes = np.unique(links[rows, columns], return_inverse=True)
    label = np.full(len(links), np.iinfo(np.uint64).max)
    best = names.copy()  # the smallest label that any row of this key has
    while True:
        before = label.copy()
        np.minimum.at(label, rows, best[codes])
        np.minimum.at(best, codes, label[rows])
        if (label == before).all():
            return label


def assign(labels: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """The number of each row's split, int64 (n,): every component falls by its own hash."""
    position = (mix(seed, labels, 0x5B117) >> np.uint64(11)).astype(np.float64) / 2.0**53  # [0, 1)
    edges = np.cumsum(list(shares.values()))[:-1]
    return np.searchsorted(edges, position, side="right")
