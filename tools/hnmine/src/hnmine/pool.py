"""The pool of distinct texts that negatives are chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.errors import InputError
from fletching.io import Reader
from fletching.table import RaggedArray
from fletching.table.key_set import find_sorted
from fletching.table.ragged_array import offsets_of
from fletching.titled_texts import titled_texts
from hnmine.arrays import Keys, Numbers
from hnmine.mining_rows import MiningRows, domain_keys, hash_bytes, list_lengths


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

    @property
    def numbers(self) -> Numbers:
        """The pool numbers of its texts."""
        return np.arange(self.first, self.stop)


class _CollectedTexts:
    """Texts on their way into the pool, their ids (null where there is none), and their keys."""

    def __init__(self) -> None:
        self.texts = [pa.array([], pa.large_string())]
        self.ids = [pa.array([], pa.large_string())]
        self.frames: list[pl.DataFrame] = []
        nothing = pa.array([], pa.string())
        self.add(nothing, nothing, np.zeros(0, np.uint64), origin=Origin.CORPUS)

    def add(self, texts: pa.Array, ids: pa.Array, domains: Keys, *, origin: Origin) -> None:
        """Note texts (n,) with their ids and domains."""
        keys = text_keys.hash_texts(texts)
        spellings = hash_bytes(texts)
        columns = {
            "domain": domains,
            "key": keys,  # of the normalised text
            "equal": text_keys.mix(domains, keys),
            "spelling": spellings,  # of the text as it is written
            "spelled": text_keys.mix(domains, spellings),
            "id_hash": hash_bytes(ids),
        }
        frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.UInt64))
        self.frames.append(frame.with_columns(origin=pl.lit(origin, pl.UInt8)))
        self.texts.append(texts.cast(pa.large_string()))
        self.ids.append(ids.cast(pa.large_string()))

    def add_lists(self, rows: pa.RecordBatch, name: str, *, origin: Origin) -> None:
        """Note the items of a list column, with the ids of `<name>_ids`."""
        lists = schema.column(rows, name, rows["pos"].type)
        ids = schema.column(rows, name + "_ids", lists.type)
        lengths = list_lengths(lists)
        if ids.null_count:  # rows without ids give a null for each text
            nulls = pa.array([[None] * length for length in lengths.tolist()], lists.type)
            ids = pc.if_else(ids.is_valid(), ids, nulls)
            ids = ids.filter(lists.is_valid()) if lists.null_count else ids
        domains = np.repeat(domain_keys(rows), lengths)
        self.add(lists.flatten(), ids.flatten(), domains, origin=origin)


class DocumentPool:
    """Distinct (domain, text) pairs of the input's positives, kept negatives and the corpus.

    Texts that are equal after normalisation are one; which spelling and id represents them is
    decided by content, and the pool is sorted by content, so that neither the order of the corpus
    nor that of the rows matters. The numbers from `len(pool)` on are variants: positives and old
    negatives that are not in the pool as they are spelled, kept for their scores alone. Held in
    memory: the texts, and 64 bytes for each.

    pool_only: the texts of the corpus alone are candidates.
    Raises InputError where there are rows but no texts.
    """

    def __init__(
        self,
        rows: MiningRows,
        corpus: Reader | None,
        *,
        keep_neg: bool,
        pool_only: bool = False,
    ) -> None:
        collected = _collect(rows, corpus, keep_neg=keep_neg)
        every = pl.concat(collected.frames).with_row_index("position")
        self._index_ids(every)
        by_content = every.sort("domain", "equal", "origin", "spelling", "id_hash")
        # Of equal texts the first one represents them.
        candidates = by_content
        if pool_only:
            candidates = by_content.filter(pl.col("origin") == Origin.CORPUS)
            every = every.filter(pl.col("origin") != Origin.POSITIVE)
        chosen = candidates.unique("equal", keep="first", maintain_order=True)
        if len(rows.table) and not chosen.height:
            raise InputError("the pool is empty: there is nothing to mine from", "add --corpus")
        variants = (
            by_content.filter(pl.col("origin") != Origin.CORPUS)
            .join(chosen, on="spelled", how="anti", maintain_order="left")
            .unique("spelled", keep="first", maintain_order=True)
        )
        # Does every text that may be written have an id?
        self.has_ids = chosen.height > 0 and bool((every["id_hash"] != 0).all())
        self.text_keys: Keys = chosen["key"].to_numpy()
        self.domains = _domains(chosen)
        numbered = pl.concat([chosen, variants]).with_row_index("number")
        self._positions: Numbers = numbered["position"].to_numpy()
        by_spelling = numbered.sort("spelled")
        self._spellings: Keys = by_spelling["spelled"].to_numpy()
        self._by_spelling: Numbers = by_spelling["number"].to_numpy().astype(np.int64)
        self._texts = pa.concat_arrays(collected.texts)
        self._ids = pa.concat_arrays(collected.ids)

    def _index_ids(self, every: pl.DataFrame) -> None:
        with_id = every.filter(pl.col("id_hash") != 0).sort("id_hash", maintain_order=True)
        counts = with_id.group_by("id_hash", maintain_order=True).len()
        self._known_ids: Keys = counts["id_hash"].to_numpy()
        # One list for each id, and an empty one behind them for unknown ids.
        lengths = np.append(counts["len"].to_numpy(), 0)
        self._keys_of_ids = RaggedArray.from_lengths(with_id["key"].to_numpy(), lengths)

    def __len__(self) -> int:
        return len(self.text_keys)

    @property
    def vectors_needed(self) -> int:
        """How many texts have a vector: those of the pool, and the variants behind them."""
        return len(self._positions)

    def texts(self, numbers: Numbers) -> pa.Array:
        """The texts of these numbers, strings (len(numbers),)."""
        return self._texts.take(pa.array(self._positions[numbers])).cast(pa.string())

    def ids(self, numbers: Numbers) -> pa.Array:
        """The ids of these numbers, strings (len(numbers),); null where a text has none."""
        return self._ids.take(pa.array(self._positions[numbers])).cast(pa.string())

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


def _collect(rows: MiningRows, corpus: Reader | None, *, keep_neg: bool) -> _CollectedTexts:
    collected = _CollectedTexts()
    for batch in rows.table:
        collected.add_lists(batch, "pos", origin=Origin.POSITIVE)
        if keep_neg:
            collected.add_lists(batch, "neg", origin=Origin.OLD_NEGATIVE)
    for batch in corpus or ():
        domains = domain_keys(batch)
        collected.add(titled_texts(batch), batch["id"], domains, origin=Origin.CORPUS)
    return collected


def _domains(chosen: pl.DataFrame) -> list[Domain]:
    """The domains of texts that are sorted by domain."""
    sizes = chosen.group_by("domain", maintain_order=True).len()
    starts = offsets_of(sizes["len"].to_numpy()).tolist()
    return [
        Domain(key=key, first=first, stop=stop)
        for key, first, stop in zip(sizes["domain"].to_list(), starts, starts[1:])
    ]
