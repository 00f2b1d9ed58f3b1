"""Which positives stay, which rows are dropped without one, and the counts of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fletching.report import Report
from fletching.table import RaggedArray
from simfilter.criteria import MET, ScoredUnit, first_failed, reason_of
from simfilter.histogram import Histogram
from simfilter.keep_top import with_lowest_kept
from simfilter.options import Options
from simfilter.positive_lists import keep_positives, positive_counts, rejected_rows


@dataclass(frozen=True, kw_only=True)
class FilteredRows:
    """One unit after the criteria."""

    kept: pa.RecordBatch
    dropped: pa.RecordBatch  # with the column `reject_reason`


def filter_rows(
    units: Iterable[ScoredUnit],
    columns: pa.Schema,
    *,
    options: Options,
    score_kind: str,
    report: Report,
) -> Iterator[FilteredRows]:
    """Each unit under the criteria; what they drop is counted by its reason."""
    histogram = Histogram(score_kind)
    positives_dropped = 0
    for unit in with_lowest_kept(units, columns, options):
        histogram.add(unit.rows, unit.scores)
        failed = first_failed(unit, options)
        is_met = failed == MET
        positives = RaggedArray.from_lengths(is_met, positive_counts(unit.rows))
        counts = positives.filter(is_met).lengths
        has_positives = counts > 0
        lost = positives.lengths - counts
        positives_dropped += int(lost[has_positives].sum())
        reasons = [
            reason_of(int(failed[best]), options)
            for best in _best_positives(unit, np.flatnonzero(~has_positives))
        ]
        for reason in reasons:
            report.drop(reason)
        without_positives = unit.rows.filter(pa.array(~has_positives))
        yield FilteredRows(
            kept=keep_positives(unit.rows, is_met).filter(pa.array(has_positives)),
            dropped=rejected_rows(without_positives, columns, reasons),
        )
    report.measures["positives_dropped_from_kept_rows"] = positives_dropped
    report.measures |= histogram.measures()


def _best_positives(unit: ScoredUnit, rows: np.ndarray) -> Iterator[int]:
    """The position among all positives of the best one of each row."""
    scores = RaggedArray.from_lengths(unit.scores, positive_counts(unit.rows))
    for row in rows:
        yield int(scores.offsets[row] + scores[row].argmax())
