"""Record batches appended to a scratch Arrow file, then mapped; rows taken by number."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from fletching.table import atomic
from fletching.table.ragged_array import Integers, offsets_of


class DiskTable:
    """A table that lies on disk: append batches, `finish`, then read it repeatedly.

    path: the file to write and keep; None for a temporary one that goes with `close` or the `with`
    block. After `finish`, pages are mapped: the system keeps in memory what it can spare.

    >>> with DiskTable(pa.schema([("n", pa.int64())])) as table:
    ...     table.append(pa.record_batch({"n": [1, 2, 3]}))
    ...     _ = table.finish()
    ...     len(table), table.row(1)
    (3, {'n': 2})
    """

    def __init__(self, columns: pa.Schema, path: str | None = None) -> None:
        self.columns = columns
        self.batches: list[pa.RecordBatch] = []
        # The number of each batch's first row; last, the number of rows.
        self.offsets: list[int] = [0]
        self._lock: BinaryIO | None = None  # of the temporary file, while the table is open
        if path is None:
            self._lock = atomic.create_scratch("table")
            path = self._lock.name
        self.path = path
        self._file: pa.OSFile | None = pa.OSFile(path, "wb")
        self._writer = pa.ipc.new_file(self._file, columns)

    @classmethod
    def from_batches(cls, columns: pa.Schema, batches: Iterable[pa.RecordBatch]) -> DiskTable:
        """A finished temporary table of these batches."""
        table = cls(columns)
        try:
            for batch in batches:
                table.append(batch)
        except BaseException:
            table.close()
            raise
        return table.finish()

    @classmethod
    def open(cls, path: str) -> DiskTable:
        """A table that an earlier run finished; `close` leaves its file alone."""
        table = cls.__new__(cls)
        table.path, table._file, table._lock = path, None, None
        table._map()
        return table

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows. Not after `finish`."""
        self._writer.write_batch(batch)

    def finish(self) -> DiskTable:
        """Close the file and map it; from here on it is read."""
        if self._file is not None:
            self._writer.close()
            self._file.close()
            self._file = None
            self._map()
        return self

    def _map(self) -> None:
        reader = pa.ipc.open_file(pa.memory_map(self.path))
        self.columns = reader.schema
        self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self.offsets = offsets_of([len(batch) for batch in self.batches]).tolist()

    def __len__(self) -> int:
        return self.offsets[-1]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self.batches)

    def __enter__(self) -> DiskTable:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the rows; a temporary file goes."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.batches, self.offsets = [], [0]
        if self._lock is not None:
            atomic.remove(self.path)
            self._lock.close()
            self._lock = None

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
        """One column, mapped: nothing is copied."""
        chunks = [batch[name] for batch in self.batches]
        return pa.chunked_array(chunks, self.columns.field(name).type)

    def take(self, rows: Integers) -> pa.Table:
        """These rows, in the order asked for, copied into memory."""
        table = pa.Table.from_batches(self.batches, self.columns)
        return table.take(pa.array(np.asarray(rows, np.int64)))
