"""Numbers and texts appended to scratch files, mapped back as one contiguous column each.

A `DiskTable` gives its rows back in the batches that were appended. What sorts or gathers over
all rows needs one array instead: numpy sees it whole, and Arrow takes rows without joining chunks.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fletching.table.ragged_array import Integers

Numbers = npt.NDArray[Any]


class DiskArray:
    """A numeric array whose rows are appended to a file and then mapped as one array.

    path: the file to write; its folder is the caller's to remove. Every part appended has the same
    dtype and the same shape behind its first axis.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows = 0
        self._row_shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] = np.dtype(np.uint64)
        self._file = open(path, "wb")

    def append(self, part: Numbers) -> None:
        """Add rows, (n, …)."""
        self._row_shape = part.shape[1:]
        self._dtype = part.dtype
        self.rows += len(part)
        self._file.write(np.ascontiguousarray(part).data)

    def finish(self) -> Numbers:
        """All rows as one read-only array, mapped: the system keeps in memory what it can spare."""
        self._file.close()
        shape = (self.rows, *self._row_shape)
        if 0 in shape:  # an empty file cannot be mapped
            return np.zeros(shape, self._dtype)
        return np.memmap(self.path, self._dtype, "r", shape=shape)


class DiskTexts:
    """A column of texts appended to files and then mapped as one Arrow array; nulls stay null.

    Its offsets have 64 bits: Arrow joins the chunks of a column before it takes rows of it, and
    chunks with 32-bit offsets cannot be joined above 2 GiB of text. Memory held is one bit a row.

    path: the file of the bytes; the offsets and the validity are in `path.offsets` and
    `path.valid`.
    """

    def __init__(self, path: str) -> None:
        self._content = DiskArray(path)
        self._offsets = DiskArray(path + ".offsets")
        self._is_valid = DiskArray(path + ".valid")
        self._offsets.append(np.zeros(1, np.int64))
        self._bytes = 0
        self._mapped: list[Numbers] = []

    def release_pages(self) -> None:
        """Drop the mapped pages from this process's memory; they come back when touched."""
        for array in self._mapped:
            buffer: Any = array
            while isinstance(buffer, np.ndarray):
                buffer = buffer.base
            if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                buffer.madvise(mmap.MADV_DONTNEED)

    def append(self, texts: pa.StringArray) -> None:
        """Add rows."""
        if not len(texts):
            return
        present = texts.fill_null("")
        _, offsets, values = present.buffers()
        ends = np.frombuffer(offsets, np.int32, count=len(present) + 1, offset=present.offset * 4)
        first, last = int(ends[0]), int(ends[-1])
        if last > first:
            content = np.frombuffer(values, np.uint8, count=last - first, offset=first)
            self._content.append(content)
        self._offsets.append(ends[1:].astype(np.int64) + (self._bytes - first))
        self._is_valid.append(np.asarray(pc.is_valid(texts)))
        self._bytes += last - first

    def finish(self) -> pa.LargeStringArray:
        """All rows as one array, mapped."""
        offsets: Integers = self._offsets.finish()
        content = self._content.finish().view(np.uint8)
        self._mapped = [array for array in (offsets, content) if isinstance(array, np.memmap)]
        is_valid = self._is_valid.finish()
        validity = None
        if not is_valid.all():
            validity = pa.py_buffer(np.packbits(is_valid, bitorder="little"))
        return pa.LargeStringArray.from_buffers(
            len(offsets) - 1,
            value_offsets=pa.py_buffer(offsets),
            data=pa.py_buffer(content),
            null_bitmap=validity,
        )
