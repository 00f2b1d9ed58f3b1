"""A growing set of 64-bit keys in 8 bytes each: which keys come up for the first time?"""

from __future__ import annotations

import numpy as np


class Seen:
    """Sorted runs of keys, each at least twice as long as the next (a log-structured merge)."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def first(self, keys: np.ndarray) -> np.ndarray:
        """bool (n,): is this the first time that the key comes up, here or in calls before? Keys are added."""
        names, where = np.unique(keys, return_index=True)
        new = np.ones(len(names), bool)
        for run in self.runs:
            new &= run[np.searchsorted(run, names).clip(max=len(run) - 1)] != names
        fresh = np.zeros(len(keys), bool)
        fresh[where[new]] = True
        self._add(names[new])
        return fresh

    def _add(self, run: np.ndarray) -> None:
        if not len(run):
            return
        self.runs.append(run)
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            last = np.concatenate([self.runs.pop(-2), self.runs.pop(-1)])
            last.sort(kind="stable")  # of two sorted halves: a merge
            self.runs.append(last)
