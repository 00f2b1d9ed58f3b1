"""All examples of a run on disk, in blocks that are mapped one at a time."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence

import polars as pl
import pyarrow as pa

from csv2pairs.keys import arrow_texts
from fletching.table.disk_array import DiskTexts

SMALL = 1 << 30  # bytes of texts that may stay mapped all at once
TAKEN_AT_ONCE = 1 << 14  # texts, each of which may map 64 kB of its surroundings


class StoredPairs:
    """n examples, numbered from 0; read block by block, as they were appended.

    drawn: the column of texts that other examples may draw, `query` or `pos`; None: none.
    folder: an empty one, the caller's to remove.
    """

    def __init__(self, blocks: Iterable[pl.DataFrame], folder: str, *, drawn: str | None) -> None:
        path = os.path.join(folder, "examples")
        self.starts = [0]  # of each block; the last one is the number of examples
        self.disk_texts = DiskTexts(os.path.join(folder, "texts"))
        writer: pa.RecordBatchFileWriter | None = None
        for block in blocks:
            table = block.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pa.ipc.new_file(path, table.schema)
            if not len(table):
                continue
            writer.write_batch(table.combine_chunks().to_batches()[0])
            self.starts.append(self.starts[-1] + len(table))
            if drawn:
                texts = block[drawn]
                is_list = texts.dtype == pl.List
                self.disk_texts.append(arrow_texts(texts.explode() if is_list else texts))
        assert writer is not None, "a table without rows has an empty block"
        writer.close()
        self.texts = self.disk_texts.finish()
        with open(path, "rb") as file:
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.file = pa.ipc.open_file(pa.py_buffer(self.memory))

    def __len__(self) -> int:
        return self.starts[-1]

    def blocks(
        self, columns: Sequence[str], numbers: pl.Series | None = None
    ) -> Iterator[pl.DataFrame]:
        """These columns and `number`, a block at a time; of no examples at all, one empty block.

        numbers: of the examples wanted, rising; None: all.
        """
        if not len(self):
            yield self._frame(self.file.schema.empty_table(), columns, _numbers(0, 0))
            return
        wanted = _numbers(0, len(self)) if numbers is None else numbers
        bounds = wanted.search_sorted(pl.Series(self.starts, dtype=pl.UInt32)).to_list()
        for block, (first, last) in enumerate(itertools.pairwise(bounds)):
            if first == last:
                continue
            of_block = wanted[first:last]
            within = of_block.cast(pl.Int64) - self.starts[block]
            rows = self.file.get_batch(block).select(list(columns)).take(within.to_arrow())
            yield self._frame(pa.Table.from_batches([rows]), columns, of_block)
            if hasattr(mmap, "MADV_DONTNEED"):
                self.memory.madvise(mmap.MADV_DONTNEED)

    def _frame(self, rows: pa.Table, columns: Sequence[str], numbers: pl.Series) -> pl.DataFrame:
        frame = pl.from_arrow(rows.select(list(columns)))
        assert isinstance(frame, pl.DataFrame)
        return frame.with_columns(number=numbers)

    def take_texts(self, numbers: pl.Series) -> pl.Series:
        """Texts that may be drawn, by number; they are copied into memory."""
        is_small = self.texts.nbytes < SMALL
        step = max(len(numbers), 1) if is_small else TAKEN_AT_ONCE
        parts = []
        for start in range(0, len(numbers), step):
            parts.append(self.texts.take(numbers[start : start + step].to_arrow()))
            if not is_small:
                self.disk_texts.release_pages()
        return pl.Series(pa.chunked_array(parts, pa.large_string()))


def _numbers(first: int, last: int) -> pl.Series:
    return pl.int_range(first, last, dtype=pl.UInt32, eager=True)
