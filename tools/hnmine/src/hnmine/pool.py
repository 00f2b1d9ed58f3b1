"""The texts of a run: those of the rows, and the pool that negatives are chosen from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from fletching import text_keys
from fletching.arrays import Keys, Mask, Numbers
from fletching.errors import InputError
from fletching.table import DiskTable, KeySet, atomic
from fletching.table.key_set import find_sorted
from hnmine.stored_texts import Origin, StoredTexts, TextBatch

OF_ROWS = ["row", "origin", "number", "key", "candidate"]
BY_CONTENT = ("domain", "equal", "origin", "spelling", "id_hash")  # the order of a pool


class TextHashes(NamedTuple):
    """Of n texts: the hashes that tell where they belong."""

    key: Keys  # of the normalised text
    equal: Keys  # of the domain and the normalised text


TextFilter = Callable[[TextHashes], Mask]  # which of these texts may be in the pool


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The texts of one domain: the numbers from `first` up to `stop`."""

    key: int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first


class DocumentPool:
    """Distinct (domain, text) pairs of the input's positives, kept negatives and the corpus.

    Texts that are equal after normalisation are one; which spelling and id represents them is
    decided by content, and the pool is sorted by content, so that neither the order of the corpus
    nor that of the rows matters. The numbers from `len(pool)` on are variants: positives and old
    negatives that are not in the pool as they are spelled, kept for their scores alone. Held in
    memory: 16 bytes a text, 50 while the pool is sorted; the texts and their hashes lie on disk.

    pool_only: the texts of the corpus alone are candidates.
    belongs: in a part of the pool, which texts are in it; the variants are there in any case.
    of_rows: the positives and old negatives of all rows (row, origin, number, key, and `candidate`,
    the number of the text in the pool that equals it, null where it has none).
    all_have_ids: does every text that may be written have an id?
    Raises InputError where there are rows but no texts, unless the pool is a part.
    """

    def __init__(
        self,
        table: DiskTable,
        corpus: Iterable[pa.RecordBatch] | None,
        *,
        keep_neg: bool,
        pool_only: bool = False,
        belongs: TextFilter | None = None,
    ) -> None:
        stored, owners = _collect(table, corpus, keep_neg=keep_neg, belongs=belongs)
        self._stored = stored
        first = len(owners)  # text of the corpus
        candidates = np.arange(first if pool_only else 0, len(stored))
        if belongs is not None:  # the texts of the corpus do
            of_rows = candidates[candidates < first]
            is_kept = belongs(TextHashes(stored.key[of_rows], stored.equal[of_rows]))
            candidates = np.concatenate([of_rows[is_kept], candidates[len(of_rows) :]])
        chosen = _first_of_equals(stored, candidates)
        if len(table) and not len(chosen) and belongs is None:
            fix = "give --corpus texts" if pool_only else "add --corpus"
            raise InputError("the pool is empty: there is nothing to mine from", fix)
        self.of_rows, variants = _number_texts_of_rows(stored, owners, chosen)
        has_id = stored.id_hash != 0
        if pool_only:
            has_id |= stored.origin == Origin.POSITIVE  # which is never written
        self.all_have_ids = bool(has_id.all())
        self.has_ids = len(chosen) > 0 and self.all_have_ids
        self.text_keys: Keys = stored.key[chosen]
        self.domains = _domains(stored.domain[chosen])
        self._positions = np.concatenate([chosen, variants])  # of the texts by number

    def __len__(self) -> int:
        return len(self.text_keys)

    @property
    def vectors_needed(self) -> int:
        """How many texts have a vector: those of the pool, and the variants behind them."""
        return len(self._positions)

    def keys_of_ids(self, id_hashes: Keys) -> pl.DataFrame:
        """The key of each text that came in under one of these ids: id_hash, key."""
        wanted = KeySet(id_hashes[id_hashes != 0])
        positions = np.flatnonzero(wanted.contains(self._stored.id_hash))
        columns = {"id_hash": self._stored.id_hash[positions], "key": self._stored.key[positions]}
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.UInt64)).unique()

    def numbers_of(self, equals: Keys) -> Numbers:
        """The numbers of texts, by the hash of domain and normalised text; -1 for other texts."""
        hashes, numbers = self._numbers_by_hash
        positions = find_sorted(hashes, equals)
        return np.where(positions < 0, -1, numbers[positions]) if len(hashes) else positions

    @functools.cached_property
    def _numbers_by_hash(self) -> tuple[Keys, Numbers]:
        """The hashes of domain and normalised text, sorted, and the number of each."""
        domains = [np.full(len(domain), domain.key, np.uint64) for domain in self.domains]
        hashes = text_keys.mix(np.concatenate([self.text_keys[:0], *domains]), self.text_keys)
        order = np.argsort(hashes)
        return hashes[order], order

    def texts(self, numbers: Numbers) -> pa.Array:
        """The texts of these numbers, strings (len(numbers),)."""
        return self._stored.texts(self._positions[numbers])

    def ids(self, numbers: Numbers) -> pa.Array:
        """The ids of these numbers, strings (len(numbers),); null where a text has none."""
        return self._stored.ids(self._positions[numbers])


def _collect(
    table: DiskTable,
    corpus: Iterable[pa.RecordBatch] | None,
    *,
    keep_neg: bool,
    belongs: TextFilter | None,
) -> tuple[StoredTexts, Numbers]:
    """All texts, those of the rows first, and the row of each of these."""
    owners = [np.zeros(0, np.int64)]
    with atomic.scratch_folder("hnmine") as folder:  # what is mapped outlives it
        stored = StoredTexts(folder)
        for batch in _texts_of_rows(table, keep_neg=keep_neg):
            stored.append(batch)
            assert batch.rows is not None
            owners.append(batch.rows)
        for records in corpus or ():
            batch = TextBatch.of_corpus(records)
            if belongs is not None:
                batch = batch.filter(belongs(TextHashes(batch.keys, batch.equals)))
            stored.append(batch)
        stored.finish()
    return stored, np.concatenate(owners)


def _texts_of_rows(table: DiskTable, *, keep_neg: bool) -> Iterator[TextBatch]:
    sides = {"pos": Origin.POSITIVE} | ({"neg": Origin.OLD_NEGATIVE} if keep_neg else {})
    for first_row, batch in zip(table.offsets, table):
        for name, origin in sides.items():
            yield TextBatch.of_lists(batch, name, origin=origin, first_row=first_row)


def _first_of_equals(stored: StoredTexts, positions: Numbers) -> Numbers:
    """The positions in the order of the pool; of equal texts the first one alone."""
    equals = stored.equal[positions]
    order = np.lexsort((equals, stored.domain[positions]))
    positions, equals = positions[order], equals[order]
    is_first = np.ones(len(positions), bool)
    is_first[1:] = equals[1:] != equals[:-1]
    has_equals = ~is_first
    has_equals[:-1] |= ~is_first[1:]
    # Few texts are there twice: they alone are compared by what is below the first two keys.
    repeated = np.flatnonzero(has_equals)
    frame = _hashes(stored, positions[repeated]).sort(BY_CONTENT)
    positions[repeated] = frame["position"].to_numpy()
    return positions[is_first]


def _hashes(stored: StoredTexts, positions: Numbers) -> pl.DataFrame:
    """The columns of these texts, and `position`."""
    columns = {name: pl.Series(getattr(stored, name)[positions]) for name in stored.NAMES}
    return pl.DataFrame(columns | {"position": pl.Series(positions, dtype=pl.Int64)})


def _number_texts_of_rows(
    stored: StoredTexts, owners: Numbers, chosen: Numbers
) -> tuple[pl.DataFrame, Numbers]:
    """`of_rows` of the pool, and the positions of the variants. owners: the rows of the texts."""
    positions = np.arange(len(owners))
    texts = _hashes(stored, positions).with_columns(
        row=pl.Series(owners, dtype=pl.Int64), spelled=pl.Series(stored.spelled(positions))
    )
    in_pool = _equal_candidates(stored, chosen, KeySet(stored.equal[positions]))
    texts = texts.join(in_pool, on="equal", how="left", maintain_order="left")
    is_variant = pl.col("spelled").ne_missing(pl.col("candidate_spelled"))
    variants = texts.filter(is_variant).sort(BY_CONTENT)
    variants = variants.unique("spelled", keep="first", maintain_order=True)
    variants = variants.with_row_index("variant", offset=len(chosen))
    texts = texts.join(
        variants.select("spelled", "variant"), on="spelled", how="left", maintain_order="left"
    )
    number = pl.coalesce("variant", "candidate").alias("number")
    of_rows = texts.with_columns(number).select(OF_ROWS)
    return of_rows, variants["position"].to_numpy()


def _equal_candidates(stored: StoredTexts, chosen: Numbers, equals: KeySet) -> pl.DataFrame:
    """The texts of the pool that are among `equals`: equal, candidate (number), its spelling."""
    numbers = np.flatnonzero(equals.contains(stored.equal[chosen]))
    positions = chosen[numbers]
    columns = {
        "equal": pl.Series(stored.equal[positions]),
        "candidate": pl.Series(numbers, dtype=pl.UInt32),
        "candidate_spelled": pl.Series(stored.spelled(positions)),
    }
    return pl.DataFrame(columns)


def _domains(keys: Keys) -> list[Domain]:
    """The domains of texts that are sorted by the key of their domain."""
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    firsts = np.flatnonzero(is_first)
    stops = [*firsts[1:].tolist(), len(keys)]
    return [
        Domain(key=key, first=first, stop=stop)
        for key, first, stop in zip(keys[firsts].tolist(), firsts.tolist(), stops)
    ]
