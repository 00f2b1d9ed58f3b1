"""The pool of distinct texts that negatives are chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.errors import InputError
from fletching.io import Reader
from fletching.table import RaggedArray
from fletching.table.key_set import find_sorted
from hnmine.arrays import Keys, Numbers
from hnmine.mining_rows import MiningRows, domain_keys, hash_bytes, list_lengths


class Origin(IntEnum):
    """Where a text of the pool comes from; of equal texts, the first origin is chosen."""

    POSITIVE = 0
    OLD_NEGATIVE = 1
    CORPUS = 2


@dataclass(frozen=True, kw_only=True)
class _TextBatch:
    """n texts on their way into the pool."""

    texts: pa.Array  # large_string
    ids: pa.Array  # large_string; null where a text has none
    domains: Keys
    keys: Keys  # of the normalised texts
    spellings: Keys  # of the texts as they are written
    id_hashes: Keys
    origins: np.ndarray  # uint8

    @classmethod
    def from_texts(
        cls, texts: pa.Array, ids: pa.Array, domains: Keys, *, origin: Origin
    ) -> _TextBatch:
        """Texts (n,) with their ids and domains, hashed."""
        return cls(
            texts=texts.cast(pa.large_string()),
            ids=ids.cast(pa.large_string()),
            domains=domains,
            keys=text_keys.hash_texts(texts),
            spellings=hash_bytes(texts),
            id_hashes=hash_bytes(ids),
            origins=np.full(len(texts), origin, np.uint8),
        )

    @classmethod
    def from_lists(cls, rows: pa.RecordBatch, name: str, *, origin: Origin) -> _TextBatch:
        """The items of a list column, with the ids of `<name>_ids`."""
        lists = schema.column(rows, name, rows["pos"].type)
        ids = schema.column(rows, name + "_ids", lists.type)
        lengths = list_lengths(lists)
        if ids.null_count:  # rows without ids give a null for each text
            nulls = pa.array([[None] * length for length in lengths.tolist()], lists.type)
            ids = pc.if_else(ids.is_valid(), ids, nulls)
            ids = ids.filter(lists.is_valid()) if lists.null_count else ids
        domains = np.repeat(domain_keys(rows), lengths)
        return cls.from_texts(lists.flatten(), ids.flatten(), domains, origin=origin)


def _concatenated(batches: list[_TextBatch]) -> _TextBatch:
    """One batch of all; empties the list, so that the texts are not held twice."""
    texts = pa.chunked_array([batch.texts for batch in batches], pa.large_string())
    ids = pa.chunked_array([batch.ids for batch in batches], pa.large_string())
    joined = _TextBatch(
        texts=texts.combine_chunks(),
        ids=ids.combine_chunks(),
        domains=np.concatenate([batch.domains for batch in batches]),
        keys=np.concatenate([batch.keys for batch in batches]),
        spellings=np.concatenate([batch.spellings for batch in batches]),
        id_hashes=np.concatenate([batch.id_hashes for batch in batches]),
        origins=np.concatenate([batch.origins for batch in batches]),
    )
    batches.clear()
    return joined


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The texts of one domain: the numbers from `first` up to `stop`."""

    key: int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def numbers(self) -> Numbers:
        """The pool numbers of its texts."""
        return np.arange(self.first, self.stop)


class DocumentPool:
    """Distinct (domain, text) pairs of the input's positives, kept negatives and the corpus.

    Texts that are equal after normalisation are one; which spelling and id represents them is
    decided by content, and the pool is sorted by content, so that neither the order of the corpus
    nor that of the rows matters. The numbers from `len(pool)` on are variants: other spellings of
    positives and old negatives, kept for their scores alone. Held in memory: the texts, and 64
    bytes for each.

    Raises InputError where there are rows but no texts.
    """

    def __init__(self, rows: MiningRows, corpus: Reader | None, *, keep_neg: bool) -> None:
        batches = _text_batches(rows, corpus, keep_neg=keep_neg)
        if not any(len(batch.texts) for batch in batches):
            if len(rows.table):
                raise InputError("the pool is empty: there is nothing to mine from", "add --corpus")
            empty = pa.array([], pa.string())
            batches.append(
                _TextBatch.from_texts(empty, empty, np.zeros(0, np.uint64), origin=Origin.CORPUS)
            )
        every = _concatenated(batches)
        self._texts = every.texts
        self._ids = every.ids
        # Sorted by content; of equal texts the first one represents them.
        keys = text_keys.mix(every.domains, every.keys)
        order = np.lexsort((every.id_hashes, every.spellings, every.origins, keys, every.domains))
        is_first = np.ones(len(order), bool)
        is_first[1:] = keys[order][1:] != keys[order][:-1]
        chosen = order[is_first]
        self.size = len(chosen)
        self.text_keys = every.keys[chosen]
        self.domains = _domains(every.domains[chosen])
        spellings = text_keys.mix(every.domains, every.spellings)
        variants = _variants(every, spellings, chosen, others=order[~is_first])
        self._rows = np.concatenate([chosen, variants])
        self._by_spelling = np.argsort(spellings[self._rows], kind="stable")
        self._spellings = spellings[self._rows][self._by_spelling]
        self._index_ids(every)

    def _index_ids(self, every: _TextBatch) -> None:
        by_id = np.argsort(every.id_hashes, kind="stable")
        by_id = by_id[np.count_nonzero(every.id_hashes == 0) :]
        self._known_ids, counts = np.unique(every.id_hashes[by_id], return_counts=True)
        # One list for each id, and an empty one behind them for unknown ids.
        self._keys_of_ids = RaggedArray.from_lengths(every.keys[by_id], np.append(counts, 0))

    def __len__(self) -> int:
        return self.size

    @property
    def vectors_needed(self) -> int:
        """How many texts have a vector: those of the pool, and the variants behind them."""
        return len(self._rows)

    @property
    def has_ids(self) -> bool:
        """Does every text have an id?"""
        return not self._ids.null_count and self.size > 0

    def texts(self, numbers: Numbers) -> pa.Array:
        """The texts of these numbers, strings (len(numbers),)."""
        return self._texts.take(pa.array(self._rows[numbers])).cast(pa.string())

    def ids(self, numbers: Numbers) -> pa.Array:
        """The ids of these numbers, strings (len(numbers),); null where a text has none."""
        if not self.size:
            return pa.array([], pa.string())
        return self._ids.take(pa.array(self._rows[numbers])).cast(pa.string())

    def numbers_of(self, texts: pa.Array, domains: Keys) -> Numbers:
        """The numbers of texts of the pool, (len(texts),), in the spelling they came in."""
        keys = text_keys.mix(domains, hash_bytes(texts))
        return self._by_spelling[np.searchsorted(self._spellings, keys)]

    def keys_with_ids(self, ids: pa.Array) -> RaggedArray:
        """The text keys of all texts that came in under ids[i], as list i."""
        hashes = hash_bytes(ids)
        lists = find_sorted(self._known_ids, hashes)
        lists[lists < 0] = len(self._known_ids)  # the empty list
        return self._keys_of_ids.take(lists)


def _text_batches(rows: MiningRows, corpus: Reader | None, *, keep_neg: bool) -> list[_TextBatch]:
    batches = []
    for batch in rows.table:
        batches.append(_TextBatch.from_lists(batch, "pos", origin=Origin.POSITIVE))
        if keep_neg:
            batches.append(_TextBatch.from_lists(batch, "neg", origin=Origin.OLD_NEGATIVE))
    for batch in corpus or ():
        texts = _titled_texts(batch)
        batches.append(
            _TextBatch.from_texts(texts, batch["id"], domain_keys(batch), origin=Origin.CORPUS)
        )
    return batches


def _titled_texts(batch: pa.RecordBatch) -> pa.StringArray:
    """The title, one blank and the text."""
    titles = schema.column(batch, "title", pa.string()).cast(pa.string())
    titles = pc.if_else(pc.equal(titles, ""), None, titles)
    return pc.binary_join_element_wise(titles, batch["text"], " ", null_handling="skip")


def _domains(keys: Keys) -> list[Domain]:
    """The domains of texts that are sorted by domain."""
    distinct, starts = np.unique(keys, return_index=True)
    stops = [*starts[1:].tolist(), len(keys)]
    return [
        Domain(key=key, first=first, stop=stop)
        for key, first, stop in zip(distinct.tolist(), starts.tolist(), stops)
    ]


def _variants(every: _TextBatch, spellings: Keys, chosen: Numbers, *, others: Numbers) -> Numbers:
    """Positives and old negatives in another spelling than the chosen text, each spelling once."""
    others = others[every.origins[others] < Origin.CORPUS]
    others = others[~np.isin(spellings[others], spellings[chosen])]
    _, first_position = np.unique(spellings[others], return_index=True)
    return others[np.sort(first_position)]
