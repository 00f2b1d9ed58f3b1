"""All drafts on disk: texts and keys in temporary files that are mapped into memory.

The operating system drops mapped pages when memory is short, so what must fit is what `negatives` sorts.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from csv2pairs.pairing.pair_builder import Drafts

KEYS = (
    "query_keys",
    "item_keys",
    "item_pools",
    "links",
    "id_links",
    "apart",
    "own_category",
    "row_keys",
    "categories",
    "domains",
    "counts",
)


class Numbers:
    """An array that grows on disk."""

    def __init__(self, folder: str, name: str) -> None:
        self.path = os.path.join(folder, name)
        self.file = open(self.path, "wb")
        self.rows = 0
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint64)

    def append(self, part: np.ndarray) -> None:
        self.shape, self.dtype = part.shape[1:], part.dtype
        self.rows += len(part)
        self.file.write(np.ascontiguousarray(part).data)

    def mapped(self) -> np.ndarray:
        self.file.close()
        shape = (self.rows, *self.shape)
        return (
            np.memmap(self.path, self.dtype, "r", shape=shape)
            if np.prod(shape)
            else np.zeros(shape, self.dtype)
        )


class Texts:
    """A column of texts without nulls that grows on disk, for `take` over all of it."""

    def __init__(self, folder: str, name: str) -> None:
        self.path = os.path.join(folder, name)
        self.file = open(self.path, "wb")
        self.lengths = Numbers(folder, name + ".lengths")
        self.rows = 0

    def append(self, texts: pa.StringArray) -> None:
        _, offsets, values = texts.buffers()
        self.rows += len(texts)
        ends = (
            np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)
            if len(texts)
            else np.zeros(1, np.int32)
        )
        self.lengths.append(np.diff(ends))
        if values is not None:
            self.file.write(memoryview(values)[ends[0] : ends[-1]])

    def mapped(self) -> pa.LargeStringArray:
        self.file.close()
        offsets = np.zeros(self.rows + 1, np.int64)
        np.cumsum(self.lengths.mapped(), out=offsets[1:])
        content = (
            pa.py_buffer(np.memmap(self.path, np.uint8, "r")) if offsets[-1] else pa.py_buffer(b"")
        )
        return pa.LargeStringArray.from_buffers(self.rows, pa.py_buffer(offsets), content)


class Spool:
    """All drafts: their texts and keys in temporary files.

    n examples with m items in all: queries (n,), items (m,), starts int64 (n + 1,) of the items, and the
    arrays of `Drafts` under their names.
    """

    query_keys: np.ndarray
    item_keys: np.ndarray
    item_pools: np.ndarray
    links: np.ndarray
    id_links: np.ndarray
    apart: np.ndarray
    own_category: np.ndarray
    row_keys: np.ndarray
    categories: np.ndarray
    domains: np.ndarray
    counts: np.ndarray

    def __init__(self, drafts: Iterable[Drafts], stack: contextlib.ExitStack) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="csv2pairs-"))
        numbers = {name: Numbers(folder, name) for name in KEYS}
        texts = {name: Texts(folder, name) for name in ("ids", "query", "items", "text")}
        path = os.path.join(folder, "passed.arrow")
        passed: Any = None
        for draft in drafts:
            for name, column in numbers.items():
                column.append(getattr(draft, name))
            for name, written in texts.items():
                cells = getattr(draft, name)
                if cells is not None:
                    written.append(cells.fill_null(""))
            passed = passed or pa.ipc.new_file(path, draft.passed.schema)
            passed.write_batch(draft.passed)
        for name, column in numbers.items():
            setattr(self, name, column.mapped())
        self.ids, self.queries, self.items, self.text = (
            texts[name].mapped() for name in ("ids", "query", "items", "text")
        )
        self.rows = len(self.ids)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        if passed:
            passed.close()
        self.passed = pa.ipc.open_file(pa.memory_map(path)).read_all() if passed else pa.table({})

    def owners(self) -> np.ndarray:
        """The example of each item, int64 (m,)."""
        return np.repeat(np.arange(self.rows), self.counts)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of all items of these examples, int64."""
        counts = self.counts[rows]
        return np.repeat(
            self.starts[rows] - np.concatenate([[0], counts.cumsum()[:-1]]), counts
        ) + np.arange(counts.sum())


def take(texts: pa.LargeStringArray, places: np.ndarray) -> pa.StringArray:
    return texts.take(pa.array(places, pa.int64())).cast(pa.string())
