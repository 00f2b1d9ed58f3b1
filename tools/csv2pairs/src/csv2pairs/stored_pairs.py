"""All examples of a run on disk, in blocks that are mapped one at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow.types import is_list

from fletching.table.disk_array import DiskTexts
from fletching.table.ragged_array import offsets_of

SMALL = 1 << 30  # bytes of texts that may stay mapped all at once
TAKEN_AT_ONCE = 1 << 14  # texts, before the pages that they are on are given back


class StoredBlocks:
    """Rows numbered from 0; each block is an Arrow file, which is mapped while it is read.

    path: how the names of the files begin; their folder is the caller's to remove.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.starts = [0]  # of each block; the last one is the number of rows

    def __len__(self) -> int:
        return self.starts[-1]

    def append(self, block: pa.Table | pl.DataFrame) -> None:
        """Add a block; an empty one too, since a table without rows has columns."""
        if isinstance(block, pl.DataFrame):
            block = block.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        with pa.ipc.new_file(f"{self.path}.{len(self.starts) - 1}", block.schema) as file:
            file.write_table(block)
        self.starts.append(len(self) + len(block))

    def tables(self, is_wanted: pl.Series | None = None) -> Iterator[pa.Table]:
        """Each block; is_wanted: which rows, (n,) bools; None: all."""
        if is_wanted is None:
            is_wanted = pl.repeat(True, len(self), eager=True)
        for number, (start, stop) in enumerate(pairwise(self.starts)):
            wanted = is_wanted[start:stop]
            if stop > start and not wanted.any():
                continue
            mapped = pa.memory_map(f"{self.path}.{number}")
            table = pa.ipc.open_file(mapped).read_all()
            yield table if wanted.all() else table.filter(wanted.to_arrow())

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows and the `number` of each, a block at a time."""
        for start, table in zip(self.starts, self.tables()):
            yield frame_of(table).with_row_index("number", offset=start)


class DrawnTexts:
    """Texts, or lists of texts, of all examples as one column on disk; drawn by their number."""

    def __init__(self, path: str) -> None:
        self.disk_texts = DiskTexts(path)
        self.texts: pa.LargeStringArray | None = None

    def append(self, column: pa.ChunkedArray) -> None:
        """Add the texts of a block. Not after `take_lists`."""
        for texts in column.chunks:
            self.disk_texts.append(texts.flatten() if is_list(texts.type) else texts)

    def take_lists(self, lists: pl.Series) -> pa.ListArray:
        """Lists of numbers of texts as lists of the texts, copied into memory."""
        if self.texts is None:
            self.texts = self.disk_texts.finish()
        numbers = lists.explode(empty_as_null=False).cast(pl.Int64)
        if self.texts.nbytes < SMALL:
            texts = self.texts.take(numbers.to_arrow())
        else:
            texts = self._take_rising(self.texts, numbers)
        offsets = offsets_of(lists.list.len().to_numpy()).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), texts.cast(pa.string()))

    def _take_rising(self, texts: pa.LargeStringArray, numbers: pl.Series) -> pa.LargeStringArray:
        """These texts of a large file: read from its start to its end, then put in order.

        In the order of the draws, each text would map pages of its own, again and again.
        """
        order = numbers.arg_sort()
        rising = numbers.gather(order).to_arrow()
        parts = [texts.slice(0, 0)]
        for start in range(0, len(rising), TAKEN_AT_ONCE):
            parts.append(texts.take(rising.slice(start, TAKEN_AT_ONCE)))
            self.disk_texts.release_pages()
        return pa.concat_arrays(parts).take(order.arg_sort().to_arrow())


class StoredPairs:
    """All examples of a run: rows of the output, keys, links of table rows, and what they draw.

    folder: an empty one, the caller's to remove. drawn: the columns whose texts may be drawn.
    """

    def __init__(self, folder: str, *, drawn: Collection[str]) -> None:
        self.rows = StoredBlocks(f"{folder}/rows")
        self.keys = StoredBlocks(f"{folder}/keys")
        self.links = StoredBlocks(f"{folder}/links")
        self.drawn = StoredBlocks(f"{folder}/drawn")
        self.texts = {name: DrawnTexts(f"{folder}/{name}") for name in drawn}

    def append(self, rows: pa.Table, keys: pl.DataFrame) -> None:
        """Add a block of examples."""
        self.rows.append(rows)
        self.keys.append(keys)
        for name, texts in self.texts.items():
            texts.append(rows[name])


def frame_of(table: pa.Table) -> pl.DataFrame:
    """The table as a frame."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
