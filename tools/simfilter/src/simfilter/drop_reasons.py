"""The reason for which each positive fails, over a unit of rows or over the whole run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from fletching.table import DiskTable
from simfilter.criteria import failures, first_that_holds
from simfilter.options import Options
from simfilter.positive_lists import positive_owners


@dataclass(frozen=True, kw_only=True)
class ScoredUnit:
    """Rows, and a frame of their positives."""

    rows: pa.RecordBatch
    positives: pl.DataFrame  # row, positive, score, rank, group; see `simfilter.criteria`


@dataclass(frozen=True, kw_only=True)
class JudgedUnit:
    """Rows, and why their positives fail."""

    rows: pa.RecordBatch
    positives: pl.DataFrame  # row, score, reason (null: it meets the criteria)


def with_reasons(
    units: Iterable[ScoredUnit], columns: pa.Schema, options: Options
) -> Iterator[JudgedUnit]:
    """The units with the reason of each positive that fails.

    With a criterion over the run, the rows wait on disk until all are scored; in memory are 13
    bytes a positive, and four times as many while they are compared.
    """
    of_unit = failures(options, "unit")
    of_run = failures(options, "run")
    names = pl.Enum([*of_unit, *of_run])
    reason = first_that_holds(of_unit, names).alias("reason")
    if not of_run:
        for unit in units:
            positives = unit.positives.select("row", "score", reason)
            yield JudgedUnit(rows=unit.rows, positives=positives)
        return
    empty = pl.DataFrame(schema={"score": pl.Float32, "group": pl.UInt64, "reason": names})
    frames = [empty]

    def noted_rows() -> Iterator[pa.RecordBatch]:
        """The rows of each unit; its positives are noted as it passes."""
        for unit in units:
            frames.append(unit.positives.select("score", "group", reason))
            yield unit.rows

    with DiskTable.from_batches(columns, noted_rows()) as table:
        every = pl.concat(frames)
        frames.clear()
        late_reason = first_that_holds(of_run, names)
        every = every.select("score", pl.coalesce("reason", late_reason).alias("reason"))
        start = 0
        for rows in table:
            owners = pl.Series("row", positive_owners(rows))
            positives = every.slice(start, len(owners)).with_columns(owners)
            yield JudgedUnit(rows=rows, positives=positives)
            start += len(owners)
