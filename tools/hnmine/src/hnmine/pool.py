"""The texts of a run: those of the rows, and the pool that negatives are chosen from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching import schema, text_keys
from fletching.arrays import Keys, Numbers
from fletching.errors import InputError
from fletching.row_columns import domain_keys, list_lengths, list_owners
from fletching.table import DiskTable
from fletching.table.key_set import find_sorted
from fletching.titled_texts import titled_texts

OF_ROWS = ["row", "origin", "number", "key", "candidate"]

# Which of the texts of a frame with their hashes may be in the pool: bool (n,).
TextFilter = Callable[[pl.DataFrame], pl.Series]


class Origin(IntEnum):
    """Where a text of the pool comes from; of equal texts, the first origin is chosen."""

    POSITIVE = 0
    OLD_NEGATIVE = 1
    CORPUS = 2


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
    memory: the texts, and 64 bytes for each.

    pool_only: the texts of the corpus alone are candidates.
    belongs: in a part of the pool, which texts are in it; the variants are there in any case.
    of_rows: the positives and old negatives of all rows (row, origin, number, key, and `candidate`,
    the number of the text in the pool that equals it, null where it has none).
    with_id: the key of each text that came in under an id (id_hash, key).
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
        every = _collect(table, corpus, keep_neg=keep_neg, belongs=belongs)
        by_content = every.sort("domain", "equal", "origin", "spelling", "id_hash")
        is_of_rows = pl.col("origin") != Origin.CORPUS
        # Of equal texts the first one represents them.
        candidates = by_content.filter(~is_of_rows) if pool_only else by_content
        if belongs is not None:
            candidates = candidates.filter(belongs(candidates))
        chosen = candidates.unique("equal", keep="first", maintain_order=True)
        if len(table) and not chosen.height and belongs is None:
            fix = "give --corpus texts" if pool_only else "add --corpus"
            raise InputError("the pool is empty: there is nothing to mine from", fix)
        variants = (
            by_content.filter(is_of_rows)
            .join(chosen, on="spelled", how="anti", maintain_order="left")
            .unique("spelled", keep="first", maintain_order=True)
        )
        numbered = pl.concat([chosen, variants]).with_row_index("number")
        self.of_rows = (
            every.filter(is_of_rows)
            .join(numbered.select("spelled", "number"), on="spelled", maintain_order="left")
            .join(_numbers_of_equals(chosen), on="equal", how="left", maintain_order="left")
            .select(OF_ROWS)
        )
        self.with_id = every.filter(pl.col("id_hash") != 0).select("id_hash", "key").unique()
        written = every.filter(pl.col("origin") != Origin.POSITIVE) if pool_only else every
        self.all_have_ids = bool((written["id_hash"] != 0).all())
        self.has_ids = chosen.height > 0 and self.all_have_ids
        self.text_keys: Keys = chosen["key"].to_numpy()
        self.domains = _domains(chosen)
        self._texts = numbered["text"]
        self._ids = numbered["id"]

    def __len__(self) -> int:
        return len(self.text_keys)

    @property
    def vectors_needed(self) -> int:
        """How many texts have a vector: those of the pool, and the variants behind them."""
        return len(self._texts)

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
        return self._texts.gather(numbers).to_arrow().cast(pa.string())

    def ids(self, numbers: Numbers) -> pa.Array:
        """The ids of these numbers, strings (len(numbers),); null where a text has none."""
        return self._ids.gather(numbers).to_arrow().cast(pa.string())


def _collect(
    table: DiskTable,
    corpus: Iterable[pa.RecordBatch] | None,
    *,
    keep_neg: bool,
    belongs: TextFilter | None,
) -> pl.DataFrame:
    """A row for each text: row (null in the corpus), origin, text, id, and their keys."""
    nothing = pa.array([], pa.string())
    frames = [_frame(nothing, nothing, np.zeros(0, np.uint64), origin=Origin.CORPUS)]
    sides = {"pos": Origin.POSITIVE} | ({"neg": Origin.OLD_NEGATIVE} if keep_neg else {})
    for first_row, batch in zip(table.offsets, table):
        for name, origin in sides.items():
            frames.append(frame_of_lists(batch, name, origin=origin, first_row=first_row))
    for batch in corpus or ():
        texts = titled_texts(batch)
        frame = _frame(texts, batch["id"], domain_keys(batch), origin=Origin.CORPUS)
        frames.append(frame if belongs is None else frame.filter(belongs(frame)))
    return pl.concat(frames)


def _numbers_of_equals(chosen: pl.DataFrame) -> pl.DataFrame:
    """The number of each text of the pool as `candidate`, by `equal`."""
    return chosen.select("equal").with_row_index("candidate")


def frame_of_lists(
    batch: pa.RecordBatch, name: str, *, origin: Origin, first_row: int
) -> pl.DataFrame:
    """The items of a list column, with their keys and the ids of `<name>_ids`."""
    lists = schema.column(batch, name, batch["pos"].type)
    ids = schema.column(batch, name + "_ids", lists.type)
    if ids.null_count:  # rows without ids give a null for each text
        lengths = list_lengths(lists).tolist()
        nulls = pa.array([[None] * length for length in lengths], lists.type)
        ids = pc.if_else(ids.is_valid(), ids, nulls)
        ids = ids.filter(lists.is_valid()) if lists.null_count else ids
    owners = list_owners(lists)
    domains = domain_keys(batch)[owners]
    frame = _frame(lists.flatten(), ids.flatten(), domains, origin=origin)
    return frame.with_columns(row=pl.Series(first_row + owners, dtype=pl.Int64))


def _frame(texts: pa.Array, ids: pa.Array, domains: Keys, *, origin: Origin) -> pl.DataFrame:
    """Texts (n,) with their ids and domains."""
    keys = text_keys.hash_texts(texts)
    spellings = hash_bytes(texts)
    hashes = {
        "domain": domains,
        "key": keys,  # of the normalised text
        "equal": text_keys.mix(domains, keys),
        "spelling": spellings,  # of the text as it is written
        "spelled": text_keys.mix(domains, spellings),
        "id_hash": hash_bytes(ids),
    }
    frame = pl.DataFrame(hashes, schema=dict.fromkeys(hashes, pl.UInt64))
    return frame.with_columns(
        row=pl.lit(None, pl.Int64),
        origin=pl.lit(origin, pl.UInt8),
        text=pl.Series(texts, dtype=pl.String),
        id=pl.Series(ids, dtype=pl.String),
    )


def hash_bytes(values: pa.Array) -> Keys:
    """xxh3-64 of each string as it is written, uint64 (n,); 0 for nulls."""
    contents = values.cast(pa.binary()).to_pylist()
    digest = xxhash.xxh3_64_intdigest
    hashes = (0 if content is None else digest(content) for content in contents)
    return np.fromiter(hashes, np.uint64, len(values))


def _domains(chosen: pl.DataFrame) -> list[Domain]:
    """The domains of texts that are sorted by domain."""
    sizes = chosen.group_by("domain", maintain_order=True).len()
    stops = sizes["len"].cum_sum().to_list()
    return [
        Domain(key=key, first=stop - size, stop=stop)
        for (key, size), stop in zip(sizes.iter_rows(), stops)
    ]
