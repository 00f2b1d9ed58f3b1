"""Batches whose boundaries depend on the rows alone: at most 8,192 rows and 64 MB, or one row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from fletching.table import DiskTable

BATCH_ROWS = 8192
BATCH_BYTES = 64 << 20
MEMORY = 256 << 20  # bytes of rows that wait; 8,192 vectors of 4,096 numbers take half of it


class WaitingRows:
    """Rows that wait until there are enough: up to 256 MB in memory, more in a scratch file.

    Where 8,192 rows are cut depends on the last of them too, and they may be long.
    """

    def __init__(self, columns: pa.Schema) -> None:
        self.columns = columns
        self.batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.bytes = 0  # of the batches in memory
        self.on_disk: DiskTable | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows behind the others."""
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes
        if self.bytes > MEMORY:
            if self.on_disk is None:
                self.on_disk = DiskTable(self.columns)
            for waiting in self.batches:
                self.on_disk.append(waiting)
            self.batches, self.bytes = [], 0

    def take(self) -> pa.Table:
        """All rows, of which none waits any longer; those on disk are mapped."""
        batches = self.batches
        if self.on_disk is not None:
            batches = [*self.on_disk.finish(), *batches]
        self.close()
        return pa.Table.from_batches(batches, self.columns)

    def close(self) -> None:
        """Forget the rows. What `take` gave stays mapped."""
        if self.on_disk is not None:
            self.on_disk.close()
        self.batches, self.rows, self.bytes, self.on_disk = [], 0, 0, None


def rechunk(batches: Iterable[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of 8,192 (fewer where that is over 64 MB), the last one smaller."""
    waiting = WaitingRows(columns)
    try:
        for batch in batches:
            waiting.append(batch)
            if waiting.rows >= BATCH_ROWS:
                table = waiting.take()
                whole = table.num_rows - table.num_rows % BATCH_ROWS
                yield from cut(table.slice(0, whole))
                for rest in table.slice(whole).to_batches():
                    waiting.append(rest)
        if waiting.rows:
            yield from cut(waiting.take())
    finally:
        waiting.close()


def cut(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Contiguous batches of 8,192 rows, fewer where that is over 64 MB."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        yield from _cut_block(table.slice(start, BATCH_ROWS))


def _cut_block(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """`split` of the rows end to end, without a copy of all of them where they are long."""
    # Chunks have offsets of their own, but not as many bytes as this leaves for them.
    if table.nbytes > 2 * BATCH_BYTES and table.num_rows > 1:
        half = table.num_rows // 2
        yield from _cut_block(table.slice(0, half))
        yield from _cut_block(table.slice(half))
    else:
        for whole in table.combine_chunks().to_batches():
            yield from split(whole)


def split(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of at most 8,192 rows and 64 MB (or one row), by content alone."""
    if batch.num_rows > BATCH_ROWS:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from split(batch.slice(start, BATCH_ROWS))
    elif batch.nbytes > BATCH_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from split(batch.slice(0, half))
        yield from split(batch.slice(half))
    else:
        yield batch
