"""Why each positive fails; which positives and rows stay; what is written of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.arrays import Mask
from fletching.report import Report
from fletching.row_columns import list_lengths, list_owners
from fletching.table import DiskTable, RaggedArray
from fletching.table.ragged_array import offsets_of
from simfilter.criteria import failures, first_that_holds
from simfilter.options import Options

ALIGNED = ("pos", "pos_ids", "pos_scores")
REASON = pa.field("reject_reason", pa.string())
PAIRS = pa.schema(
    [
        pa.field("query", pa.string(), False),
        pa.field("document", pa.string(), False),
        pa.field("cos_sim", pa.float32(), False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ScoredUnit:
    """Rows, and a frame of their positives: row, positive, score, rank, group.

    With `reason`, which is null where a positive meets the criteria, they are judged.
    """

    rows: pa.RecordBatch
    positives: pl.DataFrame

    @property
    def is_judged(self) -> bool:
        """Is there a reason, or null, for each positive?"""
        return "reason" in self.positives.columns


def rejected_unit(rows: pa.RecordBatch, reasons: Sequence[str]) -> ScoredUnit:
    """Rows that are dropped unscored, each for one reason."""
    owners = list_owners(rows["pos"])
    positives = {"row": owners, "reason": np.array(reasons, object)[owners]}
    frame = pl.DataFrame(positives, schema={"row": pl.Int64, "reason": pl.String})
    return ScoredUnit(rows=rows, positives=frame.with_columns(score=pl.lit(0.0, pl.Float32)))


def with_reasons(
    units: Iterable[ScoredUnit], columns: pa.Schema, options: Options
) -> Iterator[ScoredUnit]:
    """The units with the reason of each positive that fails.

    With a criterion over the run, the rows wait on disk until all are scored; in memory are 13
    bytes a positive, and at the peak, while they are compared, about 150.
    """
    of_unit = failures(options, "unit")
    of_run = failures(options, "run")
    names = pl.Enum([*of_unit, *of_run])
    reason = first_that_holds(of_unit, names).alias("reason")
    frames = [pl.DataFrame(schema={"score": pl.Float32, "group": pl.UInt64, "reason": names})]
    with DiskTable(columns) as waiting:
        for unit in units:
            if unit.is_judged:
                yield unit
            elif of_run:
                frames.append(unit.positives.select("score", "group", reason))
                waiting.append(unit.rows)
            else:
                positives = unit.positives.select("row", "score", reason)
                yield ScoredUnit(rows=unit.rows, positives=positives)
        late_reason = first_that_holds(of_run, names)
        every = pl.concat(frames).select("score", pl.coalesce("reason", late_reason))
        frames.clear()
        start = 0
        for rows in waiting.finish():
            owners = pl.Series("row", list_owners(rows["pos"]))
            positives = every.slice(start, len(owners)).with_columns(owners)
            yield ScoredUnit(rows=rows, positives=positives)
            start += len(owners)


@dataclass(frozen=True, kw_only=True)
class FilteredRows:
    """One unit after the criteria."""

    kept: pa.RecordBatch
    pairs: pa.RecordBatch  # one row for each positive of the rows kept, as --as-pairs writes it
    dropped: pa.RecordBatch  # with the column `reject_reason`


def filter_rows(
    units: Iterable[ScoredUnit], columns: pa.Schema, report: Report
) -> Iterator[FilteredRows]:
    """The rows of each judged unit that keep a positive, and the others; counted by reason."""
    positives_dropped = 0
    meets = pl.col("reason").is_null()
    best_first = pl.col("reason").sort_by("score", descending=True, maintain_order=True)
    for unit in units:
        by_row = unit.positives.group_by("row", maintain_order=True)
        rows = by_row.agg(kept=meets.sum(), lost=(~meets).sum(), reason=best_first.first())
        is_kept = rows["kept"] > 0
        dropped = rows.filter(~is_kept)
        for reason, count in dropped.group_by("reason").len().iter_rows():
            report.drop(reason, count)
        positives_dropped += int(rows.filter(is_kept)["lost"].sum())
        meeting = unit.positives.select(meets).to_series().to_numpy()
        kept = keep_positives(unit.rows, meeting).filter(is_kept.to_arrow())
        rejected = in_columns(unit.rows.filter((~is_kept).to_arrow()), columns)
        reasons = pa.array(dropped["reason"].to_list(), REASON.type)
        yield FilteredRows(
            kept=kept,
            pairs=_as_pairs(kept, unit.positives.filter(meets)["score"]),
            dropped=rejected.append_column(REASON, reasons),
        )
    report.measures["positives_dropped_from_kept_rows"] = positives_dropped


def in_columns(rows: pa.RecordBatch, columns: pa.Schema) -> pa.RecordBatch:
    """The rows as they are, with nulls for columns that they lack."""
    arrays = [schema.column(rows, field.name, field.type) for field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def keep_positives(rows: pa.RecordBatch, keep: Mask) -> pa.RecordBatch:
    """The rows with those positives alone that `keep` (p,) marks, and what is aligned with them."""
    positives = RaggedArray.from_lengths(keep, list_lengths(rows["pos"]))
    kept = positives.filter(keep).lengths
    for name in ALIGNED:
        index = rows.schema.get_field_index(name)
        if index < 0:
            continue
        lists = rows.column(index)
        is_present = np.asarray(lists.is_valid())  # a null list has no items
        items = lists.flatten().filter(pa.array(keep[is_present[positives.owners]]))
        offsets = pa.array(offsets_of(np.where(is_present, kept, 0)), pa.int32())
        mask = lists.is_null() if lists.null_count else None
        shorter = pa.ListArray.from_arrays(offsets, items, mask=mask)
        rows = rows.set_column(index, rows.schema.field(index), shorter)
    return rows


def _as_pairs(rows: pa.RecordBatch, scores: pl.Series) -> pa.RecordBatch:
    """One row for each positive. scores: of the positives, (p,)."""
    queries = rows["query"].take(pc.list_parent_indices(rows["pos"]))
    arrays = [queries, rows["pos"].flatten(), pa.array(scores.to_numpy(), pa.float32())]
    return pa.RecordBatch.from_arrays(arrays, schema=PAIRS)
