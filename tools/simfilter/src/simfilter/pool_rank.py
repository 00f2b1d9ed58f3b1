"""The rank of each positive among a pool, for its query.

This is the consistency filter of E5 (arXiv 2212.03533).

A rank is 1 + the number of texts of the pool, in the row's domain, that score above the positive.
The query's positives (of all rows) and the query itself do not count, equal texts count once, a
tie is for the positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from fletching import schema, text_keys
from fletching.encode import memmap_buffer
from fletching.encode.encoder import WINDOW
from fletching.protocols import TextEncoder
from fletching.report import Report
from fletching.table import KeySet
from simfilter.arrays import Keys, Mask, Numbers
from simfilter.positive_lists import positive_owners
from simfilter.scorers import encode_queries, positive_cosines

BLOCK = 4096  # texts compared with the queries of a unit at a time
NOISE = 1e-6  # a matrix product differs from the product of a single pair by less

Ranker = Callable[[pa.RecordBatch], Numbers]  # rows with p positives -> (p,)


@dataclass(frozen=True, kw_only=True)
class _PoolTexts:
    """n texts on their way into the pool."""

    texts: pa.ChunkedArray
    domains: Keys
    keys: Keys

    @classmethod
    def concatenate(cls, parts: list[_PoolTexts]) -> _PoolTexts:
        """One of all."""
        chunks = [chunk for part in parts for chunk in part.texts.chunks]
        return cls(
            texts=pa.chunked_array(chunks, pa.string()),
            domains=np.concatenate([np.zeros(0, np.uint64), *(part.domains for part in parts)]),
            keys=np.concatenate([np.zeros(0, np.uint64), *(part.keys for part in parts)]),
        )


class RankPool:
    """Distinct (domain, text) pairs with their vectors on disk.

    In memory: 40 bytes for each, and the texts while they are encoded.
    """

    def __init__(
        self,
        batches: Iterable[pa.RecordBatch],
        corpus: Iterable[pa.RecordBatch],
        *,
        encoder: TextEncoder,
        report: Report,
    ) -> None:
        parts = []
        known_answers = [np.zeros(0, np.uint64)]
        for batch in batches:
            owners = positive_owners(batch)
            positives = _pool_texts(batch["pos"].flatten(), domain_keys(batch)[owners])
            parts.append(positives)
            queries = query_keys(batch)
            known_answers.append(text_keys.mix(queries, text_keys.hash_texts(batch["query"])))
            known_answers.append(text_keys.mix(queries[owners], positives.keys))
        for batch in corpus:
            parts.append(_pool_texts(_titled_texts(batch), domain_keys(batch)))
        self.known_answers = KeySet(np.concatenate(known_answers))  # mix(query key, text key)
        every = _PoolTexts.concatenate(parts)
        chosen = _distinct(every)
        self.domains = every.domains[chosen]
        self.text_keys = every.keys[chosen]
        self.vectors = memmap_buffer.allocate(len(chosen), encoder.dimension)
        with report.progress("encoding the pool", len(chosen), "texts") as progress:
            for start in range(0, len(chosen), WINDOW):
                numbers = pa.array(chosen[start : start + WINDOW])
                texts = every.texts.take(numbers).to_pylist()
                vectors = encoder.encode(texts, "document", progress=progress)
                self.vectors[start : start + len(texts)] = vectors

    def are_known_answers(self, queries: Keys, keys: Keys) -> Mask:
        """Is a text a positive of the query, or the query itself? (len(queries), len(keys))."""
        return self.known_answers.contains(text_keys.mix(queries[:, None], keys))

    def blocks(self, domain: np.uint64) -> Iterator[tuple[Keys, torch.Tensor]]:
        """(text keys, vectors) of the texts of a domain, block by block."""
        first = int(np.searchsorted(self.domains, domain, "left"))
        last = int(np.searchsorted(self.domains, domain, "right"))
        for start in range(first, last, BLOCK):
            block = slice(start, min(start + BLOCK, last))
            yield self.text_keys[block], torch.from_numpy(np.array(self.vectors[block]))


def make_ranker(pool: RankPool, encoder: TextEncoder) -> Ranker:
    """A function from rows to the rank of each positive, (p,)."""

    def rank(rows: pa.RecordBatch) -> Numbers:
        """1 + the number of texts above each positive."""
        vectors = encode_queries(rows, encoder)
        bounds = positive_cosines(rows, vectors, encoder) + np.float32(NOISE)
        domains = domain_keys(rows)
        queries = query_keys(rows)
        owners = positive_owners(rows)
        above = np.zeros(len(owners), np.int64)
        for domain in np.unique(domains):
            domain_rows = np.flatnonzero(domains == domain)
            positives = np.flatnonzero(domains[owners] == domain)
            positions = np.searchsorted(domain_rows, owners[positives])
            bound = torch.from_numpy(bounds[positives])[:, None]
            for keys, texts in pool.blocks(domain):
                scores = torch.from_numpy(vectors[domain_rows]) @ texts.T  # (rows, block)
                is_known = pool.are_known_answers(queries[domain_rows], keys)
                scores[torch.from_numpy(is_known)] = -torch.inf
                above[positives] += (scores[positions] > bound).sum(1).numpy()
        memmap_buffer.release_pages(pool.vectors)
        return above + 1

    return rank


def _pool_texts(texts: pa.Array, domains: Keys) -> _PoolTexts:
    chunked = pa.chunked_array([texts], pa.string())
    return _PoolTexts(texts=chunked, domains=domains, keys=text_keys.hash_texts(texts))


def _distinct(every: _PoolTexts) -> Numbers:
    """The first of each (domain, text), by domain and key."""
    order = np.lexsort((every.keys, every.domains))
    keys = every.keys[order]
    domains = every.domains[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (keys[1:] != keys[:-1]) | (domains[1:] != domains[:-1])
    return order[is_first]


def domain_keys(batch: pa.RecordBatch) -> Keys:
    """A key of each row's domain, (n,); rows without one share a key."""
    return text_keys.hash_texts(schema.column(batch, "domain", pa.string()).cast(pa.string()))


def query_keys(batch: pa.RecordBatch) -> Keys:
    """A key of each row's query in its domain, (n,)."""
    return text_keys.mix(text_keys.hash_texts(batch["query"]), domain_keys(batch))


def _titled_texts(batch: pa.RecordBatch) -> pa.StringArray:
    """The title, one blank and the text."""
    titles = schema.column(batch, "title", pa.string()).cast(pa.string())
    titles = pc.if_else(pc.equal(titles, ""), None, titles)
    return pc.binary_join_element_wise(titles, batch["text"], " ", null_handling="skip")
