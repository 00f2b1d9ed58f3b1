"""Figures by task or by domain, as a polars frame that is summed batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fletching.table.ragged_array import Integers

LIST_COLUMNS = ("pos", "neg")


class GroupTable:
    """Rows, lengths and list sizes for each value of a column; null is a group too.

    name: of the column. main: the column of the text that each row has.
    """

    def __init__(self, name: str, main: str) -> None:
        self.name, self.main = name, main
        self.sums: pl.DataFrame | None = None

    def __len__(self) -> int:
        return 0 if self.sums is None else self.sums.height

    def add(self, batch: pa.RecordBatch, lengths: Mapping[str, Integers]) -> None:
        """Count a batch. lengths: of the texts of its columns; of lists, item after item."""
        amounts: dict[str, Integers] = {
            "rows": np.ones(batch.num_rows, np.int64),
            self.main: lengths[self.main],
        }
        for name in LIST_COLUMNS:
            if name in batch.schema.names:
                amounts |= _list_amounts(batch, name, lengths[name])
        columns = {name: pl.Series(values) for name, values in amounts.items()}
        groups = pl.Series(batch[self.name].to_pylist(), dtype=pl.String)
        frame = pl.DataFrame({"group": groups, **columns})
        if self.sums is not None:
            frame = pl.concat([self.sums, frame])
        sums = pl.exclude("group").sum()
        self.sums = frame.group_by("group").agg(sums)

    def records(self, most: int | None = None) -> list[dict[str, Any]]:
        """The groups with the most rows first: rows, mean lengths, items a row."""
        if self.sums is None:
            return []
        figures = {
            "rows": pl.col("rows"),
            f"{self.main}_length": _ratio(self.main, "rows"),
        }
        for name in LIST_COLUMNS:
            if name in self.sums.columns:
                items = f"{name}_items"
                figures[f"{name}_length"] = _ratio(name, items)
                figures[f"{name}_a_row"] = _ratio(items, "rows")
        means = self.sums.select("group", **figures)
        ordered = means.sort(["rows", "group"], descending=[True, False])
        if most is not None:
            ordered = ordered.head(most)
        return ordered.to_dicts()


def _list_amounts(batch: pa.RecordBatch, name: str, lengths: Integers) -> dict[str, Integers]:
    """The items of each row's list and the length of all its texts."""
    counts = pc.list_value_length(batch[name]).fill_null(0)
    items = np.asarray(counts, np.int64)
    owners = np.repeat(np.arange(batch.num_rows), items)
    of_row = np.bincount(owners, weights=lengths, minlength=batch.num_rows)
    return {f"{name}_items": items, name: of_row.astype(np.int64)}


def _ratio(amount: str, base: str) -> pl.Expr:
    """Their quotient; null where the base is 0."""
    quotient = pl.col(amount) / pl.col(base)
    has_base = pl.col(base) > 0
    return pl.when(has_base).then(quotient)
