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

    def add(self, batch: pa.RecordBatch, lengths: Mapping[str, Integers]) -> None:
        """Count a batch. lengths: of the texts of its columns; of lists, item after item."""
        frame = pl.DataFrame({"group": batch[self.name].to_pylist()}, {"group": pl.String})
        sums = {"rows": np.ones(batch.num_rows, np.int64), self.main: lengths[self.main]}
        for name in LIST_COLUMNS:
            if name not in batch.schema.names:
                continue
            items = np.asarray(pc.list_value_length(batch[name]).fill_null(0), np.int64)
            owners = np.repeat(np.arange(batch.num_rows), items)
            of_row = np.bincount(owners, weights=lengths[name], minlength=batch.num_rows)
            sums |= {f"{name}_items": items, name: of_row.astype(np.int64)}
        frame = frame.with_columns(**{name: pl.Series(values) for name, values in sums.items()})
        parts = [frame] if self.sums is None else [self.sums, frame]
        self.sums = pl.concat(parts).group_by("group").agg(pl.exclude("group").sum())

    def records(self, most: int | None = None) -> list[dict[str, Any]]:
        """The groups with the most rows first: rows, mean lengths, items a row."""
        if self.sums is None:
            return []
        sums = self.sums
        means = [pl.col("group"), "rows", _ratio(self.main, "rows").alias(f"{self.main}_length")]
        for name in LIST_COLUMNS:
            if name in sums.columns:
                means.append(_ratio(name, f"{name}_items").alias(f"{name}_length"))
                means.append(_ratio(f"{name}_items", "rows").alias(f"{name}_a_row"))
        ordered = sums.select(means).sort(["rows", "group"], descending=[True, False])
        return (ordered if most is None else ordered.head(most)).to_dicts()

    def __len__(self) -> int:
        return 0 if self.sums is None else self.sums.height


def _ratio(amount: str, base: str) -> pl.Expr:
    """Their quotient; null where the base is 0."""
    return pl.when(pl.col(base) > 0).then(pl.col(amount) / pl.col(base))
