"""Sets of 64-bit keys, 8 bytes each: one that is made once, and one that grows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


class KeySet:
    """Distinct keys, sorted.

    >>> 3 in KeySet(np.array([7, 3, 3], np.uint64)), len(KeySet(np.array([7, 3, 3], np.uint64)))
    (True, 2)
    """

    def __init__(self, keys: Keys) -> None:
        self.keys: Keys = np.unique(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: int) -> bool:
        return bool(self.contains(np.array([key], np.uint64))[0])

    def contains(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of the keys belong to the set: bool, of the shape of `keys`."""
        return contains_sorted(self.keys, keys)

    def positions(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Where keys of the set are in `self.keys`: of the shape of `keys`. Not for other keys.

        >>> KeySet(np.array([7, 3, 9], np.uint64)).positions(np.array([9, 3], np.uint64)).tolist()
        [2, 0]
        """
        return np.searchsorted(self.keys, keys)


class GrowingKeySet:
    """A set that keys are added to in batches: which come up for the first time?

    Sorted runs, each at least twice as long as the next (a log-structured merge).
    """

    def __init__(self) -> None:
        self.runs: list[Keys] = []

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    def contains(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of the keys (n,) have been added."""
        is_member = np.zeros(len(keys), bool)
        for run in self.runs:
            is_member |= contains_sorted(run, keys)
        return is_member

    def add_new(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Add keys (n,); bool (n,): is this its first occurrence, in this call and all before?"""
        distinct, first_position = np.unique(keys, return_index=True)
        is_new = np.ones(len(distinct), bool)
        for run in self.runs:
            is_new &= ~contains_sorted(run, distinct)
        first_occurrence = np.zeros(len(keys), bool)
        first_occurrence[first_position[is_new]] = True
        self._append(distinct[is_new])
        return first_occurrence

    def _append(self, run: Keys) -> None:
        if not len(run):
            return
        self.runs.append(run)
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            merged = np.concatenate([self.runs.pop(-2), self.runs.pop(-1)])
            merged.sort(kind="stable")  # of two sorted halves: a merge
            self.runs.append(merged)


def contains_sorted(sorted_keys: Keys, keys: Keys) -> npt.NDArray[np.bool_]:
    """Which of the keys (any shape) are in `sorted_keys`: bool of the same shape."""
    if not len(sorted_keys):
        return np.zeros(np.shape(keys), bool)
    positions = np.searchsorted(sorted_keys, keys)
    nearest = sorted_keys[np.minimum(positions, len(sorted_keys) - 1)]
    return np.asarray(nearest == keys)


def find_sorted(sorted_keys: Keys, keys: Keys) -> npt.NDArray[np.int64]:
    """The position of each key (any shape) in the distinct `sorted_keys`; -1 where it is missing.

    >>> find_sorted(np.array([2, 5, 9], np.uint64), np.array([9, 3, 2], np.uint64)).tolist()
    [2, -1, 0]
    """
    if not len(sorted_keys):
        return np.full(np.shape(keys), -1)
    positions = np.searchsorted(sorted_keys, keys)
    nearest = np.minimum(positions, len(sorted_keys) - 1)
    return np.where(sorted_keys[nearest] == keys, nearest, -1)
