"""What is mined for and what is mined from: the rows on disk, the pool of distinct texts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching import schema, text_keys
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report

UNIT = 1024  # rows encoded together; shards are whole units, so that a shard's vectors are the whole run's


class Spool:
    """All input rows in a temporary Arrow file, mapped into memory, and the part of them that is mined for.

    shard: (i, n) takes the i-th of n runs of units; the pool is made of all rows either way.
    """

    def __init__(
        self,
        rows: Reader,
        report: Report,
        stack: contextlib.ExitStack,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="hnmine-", suffix=".arrow"))
        writer = pa.ipc.new_file(file, rows.columns)
        with report.progress("reading") as progress:
            for batch in rows:
                writer.write_batch(batch)
                progress.advance(len(batch))
        writer.close()
        file.flush()
        reader = pa.ipc.open_file(pa.memory_map(file.name))
        self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        pieces = [
            batch.slice(start, UNIT)
            for batch in self.batches
            for start in range(0, len(batch), UNIT)
        ]
        number, count = shard
        self.units = pieces[number * len(pieces) // count : (number + 1) * len(pieces) // count]
        self.starts = np.cumsum([0, *(len(unit) for unit in self.units)])
        report.drop("in other shards", sum(map(len, self.batches)) - int(self.starts[-1]))


def domain_keys(batch: pa.RecordBatch) -> np.ndarray:
    """A key of each row's domain, uint64 (n,); rows without one share a domain of their own."""
    return text_keys.hash_texts(schema.column(batch, "domain", pa.string()).cast(pa.string()))


def hashes(values: pa.Array) -> np.ndarray:
    """xxh3-64 of each string as it stands, uint64 (n,); 0 for nulls."""
    digest = xxhash.xxh3_64_intdigest
    found = values.cast(pa.binary()).to_pylist()
    if values.null_count:
        return np.fromiter(
            (0 if value is None else digest(value) for value in found), np.uint64, len(values)
        )
    return np.fromiter(map(digest, found), np.uint64, len(values))


class Pool:
    """Distinct (domain, text) pairs, n of them: the positives of the input, old negatives where asked, the corpus.

    Texts that are equal after normalisation are one; the text and id that stand for them are chosen by content, and
    the pool is sorted by content, so that neither the order of the corpus nor that of the rows changes anything.
    Texts are held in memory, and 60 bytes for each.
    """

    def __init__(self, spool: Spool, corpus: Reader | None, keep_neg: bool) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._texts: list[pa.Array] = []
        self._ids: list[pa.Array] = []
        for batch in spool.batches:
            domains = domain_keys(batch)
            self._add_lists(batch, "pos", domains, 0)
            if keep_neg:
                self._add_lists(batch, "neg", domains, 1)
        for batch in corpus or ():
            self._add(_titled(batch), batch["id"], domain_keys(batch), 2)
        if not self._texts or not sum(map(len, self._texts)):
            self._add(
                pa.array([], pa.string()), pa.array([], pa.string()), np.zeros(0, np.uint64), 0
            )
            if spool.batches:
                raise InputError(
                    "the pool is empty: there is nothing to mine from", "give a --corpus"
                )
        self._settle()

    def __len__(self) -> int:
        return self.size

    def texts(self, numbers: np.ndarray) -> pa.Array:
        """The texts of these numbers, strings (len(numbers),); numbers from `size` on are variants."""
        return self._texts_at(self._rows[numbers])

    def ids(self, numbers: np.ndarray) -> pa.Array:
        return self._all_ids.take(pa.array(self._rows[numbers])).cast(pa.string())

    @property
    def named(self) -> bool:
        """Does every text of the pool have an id?"""
        return not self._all_ids.null_count and self.size > 0

    def find(self, texts: pa.Array, domains: np.ndarray) -> np.ndarray:
        """The numbers of texts that went into the pool, as they are written, int64 (len(texts),)."""
        return self._by_spelling[
            np.searchsorted(self._spellings, text_keys.mix(domains, hashes(texts)))
        ]

    def with_id(self, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(i, text key) of every text of the pool that came in under ids[i]."""
        wanted = hashes(ids)
        first, last = (
            np.searchsorted(self._id_hashes, wanted, "left"),
            np.searchsorted(self._id_hashes, wanted, "right"),
        )
        last[wanted == 0] = first[wanted == 0]
        count = last - first
        places = np.repeat(first - (count.cumsum() - count), count) + np.arange(count.sum())
        return np.repeat(np.arange(len(ids)), count), self._id_keys[places]

    def domains_of(self) -> Iterator[tuple[int, int, int]]:
        """(domain key, first number, last number + 1) of each domain."""
        names, starts = np.unique(self.domains, return_index=True)
        yield from zip(names.tolist(), starts.tolist(), [*starts[1:].tolist(), self.size])

    def _add_lists(
        self, batch: pa.RecordBatch, name: str, domains: np.ndarray, source: int
    ) -> None:
        lists = schema.column(batch, name, batch["pos"].type)
        ids = schema.column(batch, name + "_ids", lists.type)
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        if ids.null_count:  # rows without ids give a null for each text
            placed = pc.if_else(
                ids.is_valid(), ids, pa.array([[None] * count for count in counts], lists.type)
            )
            ids = placed.filter(lists.is_valid()) if lists.null_count else placed
        self._add(lists.flatten(), ids.flatten(), np.repeat(domains, counts), source)

    def _add(self, texts: pa.Array, ids: pa.Array, domains: np.ndarray, source: int) -> None:
        self._texts.append(texts.cast(pa.large_string()))
        self._ids.append(ids.cast(pa.large_string()))
        sources = np.full(len(texts), source, np.uint8)
        self._parts.append(
            (domains, text_keys.hash_texts(texts), hashes(texts), hashes(ids), sources)
        )

    def _settle(self) -> None:
        """Sort, and choose one text for each key."""
        domains, texts, spellings, ids, sources = (
            np.concatenate(part) for part in zip(*self._parts)
        )
        self._all_texts = pa.chunked_array(self._texts, pa.large_string()).combine_chunks()
        self._all_ids = pa.chunked_array(self._ids, pa.large_string()).combine_chunks()
        del self._parts, self._texts, self._ids
        mixed = text_keys.mix(domains, texts)
        order = np.lexsort((ids, spellings, sources, mixed, domains))
        fresh = np.ones(len(order), bool)
        fresh[1:] = mixed[order][1:] != mixed[order][:-1]
        chosen = order[fresh]
        self.size = len(chosen)
        self.domains, self.text_keys = domains[chosen], texts[chosen]
        # Positives and old negatives written in another way than the text chosen: only for their own scores.
        written = text_keys.mix(domains, spellings)
        others = order[~fresh & (sources[order] < 2)]
        others = others[~np.isin(written[others], written[chosen])]
        _, once = np.unique(written[others], return_index=True)
        self._rows = np.concatenate([chosen, others[np.sort(once)]])
        by_spelling = np.argsort(written[self._rows], kind="stable")
        self._spellings, self._by_spelling = written[self._rows][by_spelling], by_spelling
        by_id = np.argsort(ids, kind="stable")
        self._id_hashes, self._id_keys = ids[by_id], texts[by_id]

    @property
    def vectors_needed(self) -> int:
        """The texts of the pool and the variants behind them."""
        return len(self._rows)

    def _texts_at(self, rows: np.ndarray) -> pa.Array:
        return self._all_texts.take(pa.array(rows)).cast(pa.string())


def _titled(batch: pa.RecordBatch) -> pa.StringArray:
    """The title, one blank and the text."""
    titles = schema.column(batch, "title", pa.string()).cast(pa.string())
    return pc.binary_join_element_wise(
        pc.if_else(pc.equal(titles, ""), None, titles), batch["text"], " ", null_handling="skip"
    )
