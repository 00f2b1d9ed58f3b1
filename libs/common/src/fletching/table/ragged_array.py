"""A list of values for each row, end to end with offsets (compressed sparse rows)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RaggedArray:
    """r lists of values, n values in all: list i is `values[offsets[i] : offsets[i + 1]]`.

    >>> lists = RaggedArray.from_lists([[5, 6], [], [7]])
    >>> lists.lengths.tolist(), lists.owners.tolist(), lists.ranks_within.tolist()
    ([2, 0, 1], [0, 0, 2], [0, 1, 0])
    >>> lists.take(np.array([2, 0])).values.tolist()
    [7, 5, 6]
    """

    values: npt.NDArray[Any]  # (n, …)
    offsets: Integers  # (r + 1,), rising from 0 to n

    @classmethod
    def from_lengths(
        cls, values: npt.NDArray[Any], lengths: npt.NDArray[Any] | Sequence[int]
    ) -> RaggedArray:
        """Consecutive values cut into lists of these lengths."""
        return cls(values, offsets_of(lengths))

    @classmethod
    def from_lists(
        cls, lists: Sequence[Sequence[Any]], dtype: npt.DTypeLike = np.int64
    ) -> RaggedArray:
        """The same lists as one array."""
        values = np.array([value for row in lists for value in row], dtype)
        return cls.from_lengths(values, [len(row) for row in lists])

    @classmethod
    def from_pairs(cls, owners: Integers, values: npt.NDArray[Any], rows: int) -> RaggedArray:
        """Values grouped by the row that owns each, in their given order within a row."""
        order = np.argsort(owners, kind="stable")
        return cls.from_lengths(values[order], np.bincount(owners, minlength=rows))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Integers:
        """The number of values of each row, (r,)."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Integers:
        """The row that each value belongs to, (n,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def ranks_within(self) -> Integers:
        """The place of each value in its own list, from 0, (n,)."""
        return ranks_within(self.lengths)

    def lengths_of(self, rows: Integers) -> Integers:
        """The number of values of these rows; looks at no others."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def positions(self, rows: Integers) -> Integers:
        """Where the values of these rows lie in `values`, list after list."""
        lengths = self.lengths_of(rows)
        return np.repeat(self.offsets[rows], lengths) + ranks_within(lengths)

    def slice(self, start: int, stop: int) -> RaggedArray:
        """The lists of the rows from `start` up to `stop`, without a copy of their values.

        >>> RaggedArray.from_lists([[5, 6], [], [7]]).slice(1, 3).offsets.tolist()
        [0, 0, 1]
        """
        offsets = self.offsets[start : stop + 1]
        return RaggedArray(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def take(self, rows: Integers) -> RaggedArray:
        """The lists of these rows, in the order asked for; a row may be asked for twice."""
        return RaggedArray.from_lengths(self.values[self.positions(rows)], self.lengths_of(rows))

    def filter(self, keep: npt.NDArray[np.bool_]) -> RaggedArray:
        """Each list without the values that `keep` (n,) does not mark; no list goes."""
        kept = np.bincount(self.owners[keep], minlength=len(self))
        return RaggedArray.from_lengths(self.values[keep], kept)


def offsets_of(lengths: npt.NDArray[Any] | Sequence[int]) -> Integers:
    """[0, l0, l0 + l1, …], int64 (r + 1,).

    >>> offsets_of([2, 0, 1]).tolist()
    [0, 2, 2, 3]
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranks_within(lengths: npt.NDArray[Any]) -> Integers:
    """0, 1, … within each list, int64 (sum of lengths,).

    >>> ranks_within(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = offsets_of(lengths)
    return np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
