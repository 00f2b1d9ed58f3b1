"""Distributions of whole numbers and of scores, counted batch by batch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating] | npt.NDArray[np.integer]

STEPS = (1.0, 2.0, 5.0, 10.0)  # widths of the bins of a histogram, times a power of ten


class Bin(NamedTuple):
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
        return low if last <= self.low else f"{low} to {last:,.0f}"


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
        values = np.array(sorted(self.counts), np.int64)
        counts = np.array([self.counts[value] for value in values.tolist()], np.int64)
        total = int(counts.sum())
        ends = np.cumsum(counts)
        median, p95 = (values[np.searchsorted(ends, math.ceil(q * total))] for q in (0.5, 0.95))
        return Summary(
            count=total,
            least=int(values[0]),
            median=int(median),
            p95=int(p95),
            most=int(values[-1]),
            mean=float((values * counts).sum() / total),
        )

    def bins(self, most: int) -> list[Bin]:
        """A histogram of about `most` bins."""
        values = np.array(sorted(self.counts), np.float64)
        counts = np.array([self.counts[int(value)] for value in values], np.int64)
        return histogram(values, counts, most=most, whole=True)


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
        median, p95 = (float(values[math.ceil(q * total) - 1]) for q in (0.5, 0.95))
        return Summary(
            count=total,
            least=float(values[0]),
            median=median,
            p95=p95,
            most=float(values[-1]),
            mean=float(values.mean()),
        )

    def bins(self, most: int) -> list[Bin]:
        """A histogram of about `most` bins."""
        values = self.values()
        return histogram(values, np.ones(len(values), np.int64), most=most)


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
    low, high = float(values[0]), float(values[-1])
    width = _round_width((high - low) / most)
    if whole:
        width = max(width, 1.0)
    # 0.7 as float32 is 0.69999999: it belongs to the bin that begins at 0.7.
    slots = np.floor(values / width + 1e-6).astype(np.int64)
    first, last = int(slots[0]), int(slots[-1])
    if not whole and last > first and math.isclose(values[-1], last * width, rel_tol=1e-6):
        slots = np.minimum(slots, last - 1)  # the end of the range opens no bin of its own
        last -= 1
    sums = np.bincount(slots - first, weights=counts, minlength=last - first + 1)
    return [
        Bin(slot * width, (slot + 1) * width, int(sums[slot - first]))
        for slot in range(first, last + 1)
    ]


def _round_width(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least this wide."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in STEPS if step * power >= least * (1 - 1e-9))
