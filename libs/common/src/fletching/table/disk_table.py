"""Record batches appended to a scratch Arrow file, then mapped; rows taken by number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa

from fletching.table import atomic
from fletching.table.batch_table import BatchTable


class DiskTable(BatchTable):
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
        super().__init__(columns, [])
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
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        super().__init__(reader.schema, batches)

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
