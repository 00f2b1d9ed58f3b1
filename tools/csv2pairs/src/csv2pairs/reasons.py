"""Why a row is dropped: the first reason that holds, counted by name."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from fletching.report import Report


def first_that_holds(reasons: Mapping[str, pl.Expr]) -> pl.Expr:
    """The name of the first condition that is true of a row, else null."""
    return pl.coalesce(pl.when(holds).then(pl.lit(name)) for name, holds in reasons.items())


def drop_by_reason(
    rows: pl.DataFrame, reasons: Mapping[str, pl.Expr], report: Report
) -> pl.DataFrame:
    """The rows of which no reason holds; the others are counted."""
    marked = rows.with_columns(reason=first_that_holds(reasons))
    if marked["reason"].null_count() == len(rows):
        return rows
    count_reasons(marked, report)
    return marked.filter(pl.col("reason").is_null()).drop("reason")


def count_reasons(rows: pl.DataFrame, report: Report) -> None:
    """Add the rows of each `reason` to the account."""
    counts = rows.drop_nulls("reason").group_by("reason").len()
    for reason, count in counts.sort("reason").iter_rows():
        report.drop(reason, count)
