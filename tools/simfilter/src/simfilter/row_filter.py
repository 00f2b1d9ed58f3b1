"""Which positives stay, which rows are dropped without one, and the counts of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from fletching.report import Report
from simfilter.arrays import Scores
from simfilter.drop_reasons import JudgedUnit
from simfilter.positive_lists import keep_positives, rejected_rows


@dataclass(frozen=True, kw_only=True)
class FilteredRows:
    """One unit after the criteria."""

    kept: pa.RecordBatch
    kept_scores: Scores  # of each positive of the rows kept
    dropped: pa.RecordBatch  # with the column `reject_reason`


def filter_rows(
    units: Iterable[JudgedUnit], columns: pa.Schema, report: Report
) -> Iterator[FilteredRows]:
    """The rows of each unit that keep a positive, and the others; counted by reason."""
    positives_dropped = 0
    meets = pl.col("reason").is_null()
    best_first = pl.col("reason").sort_by("score", descending=True, maintain_order=True)
    for unit in units:
        by_row = unit.positives.group_by("row", maintain_order=True)
        rows = by_row.agg(kept=meets.sum(), lost=(~meets).sum(), reason=best_first.first())
        is_kept = rows.select(pl.col("kept") > 0).to_series()
        dropped = rows.filter(~is_kept)
        for reason, count in dropped.group_by("reason").len().iter_rows():
            report.drop(reason, count)
        positives_dropped += int(rows.filter(is_kept)["lost"].sum())
        meeting = unit.positives.select(meets).to_series().to_numpy()
        yield FilteredRows(
            kept=keep_positives(unit.rows, meeting).filter(is_kept.to_arrow()),
            kept_scores=unit.positives.filter(meets)["score"].to_numpy(),
            dropped=rejected_rows(
                unit.rows.filter((~is_kept).to_arrow()), columns, dropped["reason"].to_list()
            ),
        )
    report.measures["positives_dropped_from_kept_rows"] = positives_dropped
