"""All pairs of a run on disk: texts and keys in temporary files that are mapped into memory.

The system drops mapped pages when memory is short, so what must fit is what sampling sorts.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import pyarrow as pa

from csv2pairs.array_types import Integers, SmallIntegers
from csv2pairs.pairing.pair_batch import PairBatch, PairKeys
from fletching.table import RaggedArray
from fletching.table.disk_array import DiskArray, DiskTexts
from fletching.table.ragged_array import offsets_of

KEY_NAMES = [field.name for field in dataclasses.fields(PairKeys)]


class StoredPairs:
    """n examples with m positives in all, mapped from the files of a folder.

    ids, queries, row_texts: (n,); row_texts is empty without --texts-template.
    passed: the columns to write as they are, (n,) each.
    positives: (m,), the texts. positive_keys: their keys, a list for each example.
    pools: uint8 (m,), the column each positive comes from.
    """

    def __init__(self, batches: Iterable[PairBatch], folder: str, passed: Sequence[str]) -> None:
        """folder: an empty one, the caller's to remove. passed: names of columns."""
        files = _ColumnFiles(folder, passed)
        for batch in batches:
            files.append(batch)
        self.ids = files.texts["ids"].finish()
        self.queries = files.texts["queries"].finish()
        self.positives = files.texts["positives"].finish()
        self.row_texts = files.texts["row_texts"].finish()
        self.passed = {name: file.finish() for name, file in files.passed.items()}
        self.keys = PairKeys(**{name: files.numbers[name].finish() for name in KEY_NAMES})
        self.pools: SmallIntegers = files.numbers["pools"].finish()
        self.positive_keys = RaggedArray.from_lengths(
            files.numbers["positive_keys"].finish(), files.numbers["counts"].finish()
        )

    def __len__(self) -> int:
        return len(self.ids)

    def take_passed(self, rows: Integers) -> pa.RecordBatch:
        """The columns to write as they are, of some examples."""
        columns = [take_texts(column, rows) for column in self.passed.values()]
        return pa.RecordBatch.from_arrays(columns, names=list(self.passed))

    def take_positives(self, rows: Integers) -> pa.ListArray:
        """The list of positives of each of some examples."""
        texts = take_texts(self.positives, self.positive_keys.positions(rows))
        return cut_lists(texts, self.positive_keys.lengths_of(rows))


class _ColumnFiles:
    """The files while they grow."""

    def __init__(self, folder: str, passed: Sequence[str]) -> None:
        names = ["ids", "queries", "positives", "row_texts"]
        self.texts = {name: DiskTexts(os.path.join(folder, name)) for name in names}
        self.passed = {
            name: DiskTexts(os.path.join(folder, f"passed-{number}"))
            for number, name in enumerate(passed)
        }
        number_names = [*KEY_NAMES, "positive_keys", "pools", "counts"]
        self.numbers = {name: DiskArray(os.path.join(folder, name)) for name in number_names}

    def append(self, batch: PairBatch) -> None:
        """Add the examples of a batch."""
        self.texts["ids"].append(batch.ids)
        self.texts["queries"].append(batch.query)
        self.texts["positives"].append(batch.positives.texts)
        if batch.row_texts is not None:
            self.texts["row_texts"].append(batch.row_texts)
        for name, texts in self.passed.items():
            texts.append(batch.passed[name])
        for name in KEY_NAMES:
            self.numbers[name].append(getattr(batch.keys, name))
        self.numbers["positive_keys"].append(batch.positives.keys)
        self.numbers["pools"].append(batch.positives.pools)
        self.numbers["counts"].append(batch.positives.counts)


def take_texts(texts: pa.LargeStringArray, rows: Integers) -> pa.StringArray:
    """Texts by number, copied into memory."""
    return texts.take(pa.array(rows, pa.int64())).cast(pa.string())


def take_lists(texts: pa.LargeStringArray, rows: Integers) -> pa.ListArray:
    """Lists of texts by number, (m, k); -1 behind the last of a list."""
    is_text = rows >= 0
    return cut_lists(take_texts(texts, rows[is_text]), is_text.sum(axis=1))


def cut_lists(texts: pa.StringArray, lengths: Integers) -> pa.ListArray:
    """Consecutive texts as lists of these lengths."""
    return pa.ListArray.from_arrays(pa.array(offsets_of(lengths), pa.int32()), texts)
