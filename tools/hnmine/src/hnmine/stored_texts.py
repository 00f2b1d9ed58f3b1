"""The texts of a pool in files: their hashes and ids as columns, by position in the input."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching import schema, text_keys
from fletching.arrays import Keys, Mask, Numbers
from fletching.row_columns import domain_keys, list_lengths, list_owners
from fletching.table.disk_array import DiskArray, DiskTexts
from fletching.titled_texts import titled_texts


class Origin(IntEnum):
    """Where a text of the pool comes from; of equal texts, the first origin is chosen."""

    POSITIVE = 0
    OLD_NEGATIVE = 1
    CORPUS = 2


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Texts (n,) of one origin. ids: null where a text has none. rows: of the input."""

    texts: pa.StringArray
    ids: pa.StringArray
    domains: Keys
    origin: Origin
    rows: Numbers | None = None  # None in the corpus

    @classmethod
    def of_lists(
        cls, batch: pa.RecordBatch, name: str, *, origin: Origin, first_row: int
    ) -> TextBatch:
        """The items of a list column, with the ids of `<name>_ids`."""
        lists = schema.column(batch, name, batch["pos"].type)
        ids = schema.column(batch, name + "_ids", lists.type)
        if ids.null_count:  # rows without ids give a null for each text
            lengths = list_lengths(lists).tolist()
            nulls = pa.array([[None] * length for length in lengths], lists.type)
            ids = pc.if_else(ids.is_valid(), ids, nulls)
            ids = ids.filter(lists.is_valid()) if lists.null_count else ids
        owners = list_owners(lists)
        return cls(
            texts=lists.flatten(),
            ids=ids.flatten(),
            domains=domain_keys(batch)[owners],
            origin=origin,
            rows=first_row + owners,
        )

    @classmethod
    def of_corpus(cls, batch: pa.RecordBatch) -> TextBatch:
        """The texts of --corpus, each with its title before it."""
        return cls(
            texts=titled_texts(batch),
            ids=batch["id"].cast(pa.string()),
            domains=domain_keys(batch),
            origin=Origin.CORPUS,
        )

    def __len__(self) -> int:
        return len(self.texts)

    @functools.cached_property
    def keys(self) -> Keys:
        """Of the normalised texts."""
        return text_keys.hash_texts(self.texts)

    @property
    def equals(self) -> Keys:
        """Of domain and normalised text."""
        return text_keys.mix(self.domains, self.keys)

    def filter(self, mask: Mask) -> TextBatch:
        """Those of the mask, of texts of the corpus."""
        chosen = pa.array(mask)
        kept = TextBatch(
            texts=self.texts.filter(chosen),
            ids=self.ids.filter(chosen),
            domains=self.domains[mask],
            origin=self.origin,
        )
        vars(kept)["keys"] = self.keys[mask]  # known already
        return kept


class StoredTexts:
    """Texts appended to files in a folder and then mapped, with a column for each hash.

    domain: of the domain. key: of the normalised text. equal: of both. spelling: of the text as it
    is written. id_hash: of the id, 0 without one. Of `finish` on, the files may be removed.
    """

    NAMES = ("domain", "key", "equal", "spelling", "id_hash", "origin")

    def __init__(self, folder: str) -> None:
        self._columns = {name: DiskArray(os.path.join(folder, name)) for name in self.NAMES}
        self._disk_texts = DiskTexts(os.path.join(folder, "text"))
        self._disk_ids = DiskTexts(os.path.join(folder, "id"))

    def append(self, batch: TextBatch) -> None:
        """Add texts. Not after `finish`."""
        columns: dict[str, npt.NDArray[Any]] = {
            "domain": batch.domains,
            "key": batch.keys,
            "equal": batch.equals,
            "spelling": hash_bytes(batch.texts),
            "id_hash": hash_bytes(batch.ids),
            "origin": np.full(len(batch), batch.origin, np.uint8),
        }
        for name, values in columns.items():
            self._columns[name].append(values)
        self._disk_texts.append(batch.texts)
        self._disk_ids.append(batch.ids)

    def finish(self) -> None:
        """Map the columns; from here on they are read."""
        # Plain arrays: whatever is taken from an np.memmap is one too, and is not mapped.
        mapped = {name: np.asarray(column.finish()) for name, column in self._columns.items()}
        self.domain: Keys = mapped["domain"]
        self.key: Keys = mapped["key"]
        self.equal: Keys = mapped["equal"]
        self.spelling: Keys = mapped["spelling"]
        self.id_hash: Keys = mapped["id_hash"]
        self.origin: npt.NDArray[np.uint8] = mapped["origin"]
        self._texts = self._disk_texts.finish()
        self._ids = self._disk_ids.finish()

    def __len__(self) -> int:
        return len(self.key)

    def spelled(self, positions: Numbers) -> Keys:
        """Hashes of domain and text as it is written, of the texts at these positions."""
        return text_keys.mix(self.domain[positions], self.spelling[positions])

    def texts(self, positions: Numbers) -> pa.StringArray:
        """The texts at these positions."""
        texts = self._texts.take(pa.array(positions)).cast(pa.string())
        self._disk_texts.release_pages()
        return texts

    def ids(self, positions: Numbers) -> pa.StringArray:
        """The ids at these positions; null where a text has none."""
        return self._ids.take(pa.array(positions)).cast(pa.string())


def hash_bytes(values: pa.Array) -> Keys:
    """xxh3-64 of each string as it is written, uint64 (n,); 0 for nulls."""
    contents = values.cast(pa.binary()).to_pylist()
    digest = xxhash.xxh3_64_intdigest
    hashes = (0 if content is None else digest(content) for content in contents)
    return np.fromiter(hashes, np.uint64, len(values))
