"""Distributions of whole numbers and of scores, counted batch by batch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.floating] | npt.NDArray[np.integer]

LEAST_SHARE = 1e-4  # of the largest value that a bin is wide
STEPS = (1.0, 2.0, 5.0, 10.0)  # widths of the bins of a histogram, times a power of ten


@dataclass(frozen=True)
class Bin:
    """Values from `low` up to, not including, `high`; the last bin includes its end."""

    low: float
    high: float
    count: int

    def label(self, *, whole: bool) -> str:
        """`0.1 to 0.2`; of whole numbers `4` or `4 to 7`."""
        if not whole:
            return f"{_round_end(self.low)} to {_round_end(self.high)}"
        last = self.high - 1
        low = f"{self.low:,.0f}"
        if last <= self.low:
            return low
        return f"{low} to {last:,.0f}"


def _round_end(end: float) -> str:
    """The end of a bin, which is a round number, without the noise of binary fractions."""
    text = f"{end:.6g}"
    return "0" if text == "-0" else text


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Five figures of a distribution."""

    count: int
    least: float
    median: float
    p95: float
    most: float
    mean: float


class LengthCounts:
    """How often each length occurs: exact, in memory by distinct lengths."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, lengths: npt.NDArray[np.int64]) -> None:
        """Count lengths (n,)."""
        values, counts = np.unique(lengths, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist()):
            self.counts[value] += count

    def summary(self) -> Summary | None:
        """Quantiles by the nearest rank; None where nothing was counted."""
        if not self.counts:
            return None
        values, counts = self._sorted()
        total = int(counts.sum())
        ends = np.cumsum(counts)
        median = np.searchsorted(ends, _rank(0.5, total))
        p95 = np.searchsorted(ends, _rank(0.95, total))
        return Summary(
            count=total,
            least=int(values[0]),
            median=int(values[median]),
            p95=int(values[p95]),
            most=int(values[-1]),
            mean=float(np.average(values, weights=counts)),
        )

    def bins(self, most: int) -> list[Bin]:
        """A histogram of about `most` bins."""
        values, counts = self._sorted()
        return histogram(values.astype(np.float64), counts, most=most, whole=True)

    def _sorted(self) -> tuple[Integers, Integers]:
        """(the lengths, rising; how often each occurs), both (n,)."""
        pairs = sorted(self.counts.items())
        table = np.array(pairs, np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]


class ScoreValues:
    """Numbers as they come, 4 bytes each; those that are not finite are counted apart."""

    def __init__(self) -> None:
        self.parts: list[npt.NDArray[np.float32]] = []
        self.not_finite = 0

    def add(self, values: Numbers) -> None:
        """Keep numbers (n,)."""
        singles = values.astype(np.float32)
        is_finite = np.isfinite(singles)
        self.not_finite += int((~is_finite).sum())
        self.parts.append(singles[is_finite])

    def values(self) -> npt.NDArray[np.float64]:
        """The finite ones, rising."""
        joined = np.concatenate([np.zeros(0, np.float32), *self.parts])
        self.parts = [np.sort(joined)]
        return self.parts[0].astype(np.float64)

    def summary(self) -> Summary | None:
        """Quantiles by the nearest rank; None where there is no number."""
        values = self.values()
        total = len(values)
        if not total:
            return None
        median = _rank(0.5, total) - 1
        p95 = _rank(0.95, total) - 1
        return Summary(
            count=total,
            least=float(values[0]),
            median=float(values[median]),
            p95=float(values[p95]),
            most=float(values[-1]),
            mean=float(values.mean()),
        )

    def bins(self, most: int) -> list[Bin]:
        """A histogram of about `most` bins."""
        values = self.values()
        return histogram(values, np.ones(len(values), np.int64), most=most)


def _rank(share: float, total: int) -> int:
    """The nearest rank of a quantile, from 1."""
    return math.ceil(share * total)


def histogram(
    values: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    *,
    most: int,
    whole: bool = False,
) -> list[Bin]:
    """Counts of values in at most `most` + 1 bins whose ends are round numbers.

    values: (n,), rising; counts: how often each occurs, (n,). whole: are the values whole numbers?
    """
    if not len(values):
        return []
    extent = float(values[-1] - values[0])
    largest = float(np.abs(values).max())
    # Finer bins than this could not be told apart, nor counted in 64 bits.
    width = _round_width(max(extent / most, largest * LEAST_SHARE))
    if whole:
        width = max(width, 1.0)
    # 0.7 as float32 is 0.69999999: it belongs to the bin that begins at 0.7.
    slots = np.floor(values / width + 1e-6).astype(np.int64)
    first = int(slots[0])
    last = int(slots[-1])
    ends_at_edge = math.isclose(values[-1], last * width, rel_tol=1e-6)
    if ends_at_edge and not whole and last > first:
        last -= 1  # the end of the range opens no bin of its own
        slots = np.minimum(slots, last)
    size = last - first + 1
    sums = np.bincount(slots - first, weights=counts, minlength=size)
    bins = []
    for slot, total in enumerate(sums.tolist(), first):
        low = slot * width
        bins.append(Bin(low, low + width, int(total)))
    return bins


def _round_width(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least this wide."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    enough = least * (1 - 1e-9)
    widths = (step * power for step in STEPS)
    return next(width for width in widths if width >= enough)
