"""All examples of a run on disk, in blocks that are mapped one at a time."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence

import polars as pl
import pyarrow as pa
from pyarrow.types import is_list

from fletching.table.disk_array import DiskTexts
from fletching.table.ragged_array import offsets_of

SMALL = 1 << 30  # bytes of texts that may stay mapped all at once
TAKEN_AT_ONCE = 1 << 14  # texts, each of which may map 64 kB of its surroundings


class StoredPairs:
    """n examples, numbered from 0; read block by block, as they were appended.

    drawn: the column of texts, or lists of texts, that other examples may draw; None: none.
    folder: an empty one, the caller's to remove.
    """

    def __init__(self, blocks: Iterable[pa.Table], folder: str, *, drawn: str | None) -> None:
        path = os.path.join(folder, "examples")
        self.starts = [0]  # of each block; the last one is the number of examples
        self.disk_texts = DiskTexts(os.path.join(folder, "texts"))
        writer: pa.RecordBatchFileWriter | None = None
        for block in blocks:
            writer = writer or pa.ipc.new_file(path, block.schema)
            if not len(block):
                continue
            (batch,) = block.combine_chunks().to_batches()
            writer.write_batch(batch)
            self.starts.append(self.starts[-1] + len(batch))
            if drawn:
                texts = batch[drawn]
                self.disk_texts.append(texts.flatten() if is_list(texts.type) else texts)
        assert writer is not None, "a table without rows has an empty block"
        writer.close()
        self.texts = self.disk_texts.finish()
        with open(path, "rb") as file:
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.file = pa.ipc.open_file(pa.py_buffer(self.memory))

    def __len__(self) -> int:
        return self.starts[-1]

    def frames(
        self, columns: Sequence[str], numbers: pl.Series | None = None
    ) -> Iterator[pl.DataFrame]:
        """These columns and `number`, a block at a time; numbers: as `batches` takes them."""
        for of_block, rows in self.batches(columns, numbers):
            frame = pl.from_arrow(rows)
            assert isinstance(frame, pl.DataFrame)
            yield frame.with_columns(number=of_block)

    def batches(
        self, columns: Sequence[str], numbers: pl.Series | None = None
    ) -> Iterator[tuple[pl.Series, pa.RecordBatch]]:
        """(numbers, these columns) a block at a time; of no examples at all, one empty block.

        numbers: of the examples wanted, rising; None: all.
        """
        if not len(self):
            schema = pa.schema([self.file.schema.field(name) for name in columns])
            yield _numbers(0, 0), pa.RecordBatch.from_pylist([], schema)
            return
        wanted = _numbers(0, len(self)) if numbers is None else numbers
        bounds = wanted.search_sorted(pl.Series(self.starts, dtype=pl.UInt32)).to_list()
        for block, (first, last) in enumerate(itertools.pairwise(bounds)):
            if first == last:
                continue
            of_block = wanted[first:last]
            within = of_block.cast(pl.Int64) - self.starts[block]
            batch = self.file.get_batch(block)
            wanted_columns = batch.select(list(columns))
            yield of_block, wanted_columns.take(within.to_arrow())
            if hasattr(mmap, "MADV_DONTNEED"):
                self.memory.madvise(mmap.MADV_DONTNEED)

    def take_lists(self, lists: pl.Series) -> pa.ListArray:
        """Lists of numbers of drawn texts as lists of the texts, copied into memory."""
        numbers = lists.explode(empty_as_null=False).cast(pl.Int64).to_arrow()
        is_small = self.texts.nbytes < SMALL
        step = max(len(numbers), 1) if is_small else TAKEN_AT_ONCE
        parts = [pa.array([], pa.string())]
        for start in range(0, len(numbers), step):
            part = self.texts.take(numbers.slice(start, step))
            parts.append(part.cast(pa.string()))
            if not is_small:
                self.disk_texts.release_pages()
        lengths = lists.list.len().to_numpy()
        offsets = pa.array(offsets_of(lengths), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.concat_arrays(parts))


def _numbers(first: int, last: int) -> pl.Series:
    return pl.int_range(first, last, dtype=pl.UInt32, eager=True)
