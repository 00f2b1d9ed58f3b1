"""The rank of each positive among a pool, for its query.

This is the consistency filter of E5 (arXiv 2212.03533).

A rank is 1 + the number of texts of the pool, in the row's domain, that score above the positive.
The query's positives (of all rows) and the query itself do not count, equal texts count once, a
tie is for the positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from fletching import text_keys
from fletching.arrays import Keys, Mask, Numbers, Vectors
from fletching.encode import memmap_buffer
from fletching.encode.batching import WINDOW
from fletching.protocols import TextEncoder
from fletching.report import Report
from fletching.row_columns import domain_keys, list_owners, query_keys
from fletching.table import KeySet
from fletching.titled_texts import titled_texts
from simfilter.scorers import encode_queries, positive_cosines

BLOCK = 4096  # texts compared with the queries of a unit at a time
NOISE = 1e-6  # a matrix product differs from the product of a single pair by less

Ranker = Callable[[pa.RecordBatch], Numbers]  # rows with p positives -> (p,)


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
        texts: list[pa.Array] = []
        frames = [pl.DataFrame(schema={"domain": pl.UInt64, "key": pl.UInt64})]
        known_answers = [np.zeros(0, np.uint64)]

        def add(added: pa.Array, domains: Keys) -> Keys:
            """Note texts (n,) of these domains; their keys."""
            keys = text_keys.hash_texts(added)
            texts.append(added)
            frames.append(pl.DataFrame({"domain": domains, "key": keys}))
            return keys

        for batch in batches:
            owners = list_owners(batch["pos"])
            queries = query_keys(batch)
            positives = add(batch["pos"].flatten(), domain_keys(batch)[owners])
            known_answers.append(text_keys.mix(queries, text_keys.hash_texts(batch["query"])))
            known_answers.append(text_keys.mix(queries[owners], positives))
        for batch in corpus:
            add(titled_texts(batch), domain_keys(batch))
        self.known_answers = KeySet(np.concatenate(known_answers))  # mix(query key, text key)
        every = pl.concat(frames).with_row_index("number")
        distinct = every.unique(["domain", "key"], keep="first").sort("domain", "key")
        self.domains: Keys = distinct["domain"].to_numpy()
        self.text_keys: Keys = distinct["key"].to_numpy()
        every_text = pa.chunked_array(texts, pa.string())
        with report.progress("encoding the pool", distinct.height, "texts") as progress:

            def encoded() -> Iterator[Vectors]:
                """The vectors of the distinct texts, window by window."""
                for start in range(0, distinct.height, WINDOW):
                    numbers = distinct["number"].slice(start, WINDOW).to_arrow()
                    window = every_text.take(numbers).to_pylist()
                    yield encoder.encode(window, "document", progress=progress)

            self.vectors = memmap_buffer.store(encoded(), encoder.dimension)

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
        owners = list_owners(rows["pos"])
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
