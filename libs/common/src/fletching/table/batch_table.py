"""Record batches end to end, with rows by number."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fletching.table.ragged_array import Integers, offsets_of


class BatchTable:
    """Batches that are in memory, or mapped, as one table of rows with numbers.

    >>> table = BatchTable(pa.schema([("n", pa.int64())]), [pa.record_batch({"n": [1, 2, 3]})])
    >>> len(table), table.row(1)
    (3, {'n': 2})
    """

    def __init__(self, columns: pa.Schema, batches: Sequence[pa.RecordBatch]) -> None:
        self.columns = columns
        self.batches: list[pa.RecordBatch] = list(batches)
        # The number of each batch's first row; last, the number of rows.
        self.offsets: list[int] = offsets_of([len(batch) for batch in self.batches]).tolist()

    def __len__(self) -> int:
        return self.offsets[-1]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self.batches)

    def slices(self, rows: int) -> list[pa.RecordBatch]:
        """All rows in slices of at most so many, none across two batches."""
        return [
            batch.slice(start, rows)
            for batch in self.batches
            for start in range(0, len(batch), rows)
        ]

    def locate(self, row: int) -> tuple[int, int]:
        """(number of the batch, row within it)."""
        batch = bisect.bisect_right(self.offsets, row) - 1
        return batch, row - self.offsets[batch]

    def row(self, row: int) -> dict[str, Any]:
        """One row as a dictionary."""
        batch, position = self.locate(row)
        columns = self.batches[batch].columns
        return {name: column[position].as_py() for name, column in zip(self.columns.names, columns)}

    def column(self, name: str) -> pa.ChunkedArray:
        """One column: nothing is copied."""
        chunks = [batch[name] for batch in self.batches]
        return pa.chunked_array(chunks, self.columns.field(name).type)

    def take(self, rows: Integers) -> pa.Table:
        """These rows, in the order asked for, copied into memory."""
        table = pa.Table.from_batches(self.batches, self.columns)
        return table.take(pa.array(np.asarray(rows, np.int64)))
