"""The criteria: which positives stay, which rows are left without one, and why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fletching import schema, text_keys
from fletching.report import Report
from simfilter.histogram import Histogram
from simfilter.positive_units import lengths, rejected, spooled, without

KEPT, LOW, HIGH, FAR, OUTSIDE = range(5)


@dataclass(frozen=True)
class Criteria:
    """Bounds on score and rank. A bound itself is kept."""

    low: float | None = None
    high: float | None = None
    rank: int | None = None
    keep_top: float | None = None
    keep_top_by: str = "all"

    def verdict(
        self, scores: np.ndarray, ranks: np.ndarray | None, floor: np.ndarray | float
    ) -> np.ndarray:
        """KEPT or the criterion that failed, for each score; floor: the lowest score among the best share."""
        verdict = np.zeros(len(scores), np.int8)
        verdict[scores < floor] = OUTSIDE
        if self.rank is not None and ranks is not None:
            verdict[ranks > self.rank] = FAR
        if self.low is not None:
            verdict[scores < np.float32(self.low)] = LOW
        if self.high is not None:
            verdict[scores > np.float32(self.high)] = HIGH
        return verdict

    def reason(self, verdict: int) -> str:
        within = "" if self.keep_top_by == "all" else f" of the {self.keep_top_by}"
        return {
            LOW: f"below {self.low or 0:g}",
            HIGH: f"above {self.high or 0:g}",
            FAR: f"not among the best {self.rank} of the pool",
            OUTSIDE: f"outside the best {self.keep_top or 0:.0%}{within}",
        }[verdict]


@dataclass
class Scored:
    """Rows with what is known of their positives, end to end."""

    rows: pa.RecordBatch
    scores: np.ndarray  # float32 [sum of len(pos)]
    ranks: np.ndarray | None  # int64, aligned with scores


def decide(
    scored: Iterable[Scored], criteria: Criteria, kind: str, columns: pa.Schema, report: Report
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """(rows kept, rows dropped with their reason), unit by unit, and the counts of both."""
    histogram = Histogram(kind)
    lost = 0
    with contextlib.ExitStack() as stack:
        for unit, floor in _with_floors(scored, criteria, columns, stack):
            histogram.add(unit.rows, unit.scores)
            verdict = criteria.verdict(unit.scores, unit.ranks, floor)
            counts = lengths(unit.rows)
            starts = counts.cumsum() - counts
            left = np.add.reduceat(verdict == KEPT, starts, dtype=int)
            gone = left == 0
            lost += int((counts - left)[~gone].sum())
            # A row goes for the reason of its best positive.
            best = [
                start + unit.scores[start : start + count].argmax()
                for start, count in zip(starts[gone], counts[gone])
            ]
            reasons = [criteria.reason(int(verdict[pair])) for pair in best]
            for reason in reasons:
                report.drop(reason)
            yield (
                without(unit.rows, verdict == KEPT).filter(pa.array(~gone)),
                rejected(unit.rows.filter(pa.array(gone)), columns, reasons),
            )
    report.measures |= {"positives_dropped_from_kept_rows": lost, **histogram.measures()}


def _with_floors(
    scored: Iterable[Scored], criteria: Criteria, columns: pa.Schema, stack: contextlib.ExitStack
) -> Iterator[tuple[Scored, np.ndarray | float]]:
    """Each unit with the score that its positives must reach. A share to keep waits for all scores, rows spooled to disk."""
    if criteria.keep_top is None:
        yield from ((unit, -np.inf) for unit in scored)
        return
    scores, groups, ranks = [np.zeros(0, np.float32)], [np.zeros(0, np.uint64)], []

    def noted() -> Iterator[pa.RecordBatch]:
        for unit in scored:
            scores.append(unit.scores)
            groups.append(np.repeat(_group(unit.rows, criteria.keep_top_by), lengths(unit.rows)))
            ranks.append(unit.ranks)
            yield unit.rows

    waiting = spooled(noted(), columns, stack)
    floors = _floors(np.concatenate(scores), np.concatenate(groups), criteria.keep_top)
    start = 0
    for rows, values, rank in zip(waiting, scores[1:], ranks):
        yield Scored(rows, values, rank), floors[start : start + len(values)]
        start += len(values)


def _group(rows: pa.RecordBatch, by: str) -> np.ndarray:
    if by == "all":
        return np.zeros(len(rows), np.uint64)
    return text_keys.hash_texts(schema.column(rows, by, pa.string()).cast(pa.string()))


def _floors(scores: np.ndarray, groups: np.ndarray, share: float) -> np.ndarray:
    """For each score the lowest one among the best `share` of its group; at least one of a group is kept."""
    order = np.lexsort((scores, groups))
    _, code, count = np.unique(groups, return_inverse=True, return_counts=True)
    lowest = count.cumsum() - np.maximum(np.round(count * share).astype(int), 1)
    return scores[order][lowest][code] if len(scores) else scores
