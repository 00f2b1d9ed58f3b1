"""The rank of each positive among a pool, for its query: the consistency filter of E5 (arXiv 2212.03533).

A rank is 1 + the number of texts of the pool, in the row's domain, that score above the positive. The query's
own positives (of all rows) and the query itself do not count, equal texts count once, a tie is for the positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from fletching import schema, text_keys
from fletching.encode import Encoder, memmap_buffer
from fletching.encode.encoder import WINDOW
from fletching.report import Report
from simfilter.pair_scores import queries_of

BLOCK = 4096  # texts compared with the queries of a unit at a time
NOISE = 1e-6  # a matrix product differs from a pair's own product by less


class Pool:
    """n distinct texts with their vectors on disk. In memory: 40 bytes for each, and the texts while they are encoded."""

    def __init__(
        self,
        batches: Iterable[pa.RecordBatch],
        corpus: Iterable[pa.RecordBatch],
        encoder: Encoder,
        report: Report,
    ) -> None:
        parts: list[tuple[pa.Array, np.ndarray, np.ndarray]] = []  # texts, domain of each, own keys
        own = [np.zeros(0, np.uint64)]
        for batch in batches:
            domains, query = domain_keys(batch), text_keys.hash_texts(batch["query"])
            row, texts = pc.list_parent_indices(batch["pos"]).to_numpy(), batch["pos"].flatten()
            keys = text_keys.hash_texts(texts)
            parts.append((texts, domains[row], keys))
            names = text_keys.mix(query, domains)
            own += [text_keys.mix(names, query), text_keys.mix(names[row], keys)]
        for batch in corpus:
            texts = _titled(batch)
            parts.append((texts, domain_keys(batch), text_keys.hash_texts(texts)))
        self.own = np.unique(np.concatenate(own))
        texts, domains, keys = (
            np.concatenate([part[i] for part in parts])
            if i
            else pa.chunked_array([part[0] for part in parts], pa.string())
            for i in range(3)
        )
        order = np.lexsort((keys, domains))
        fresh = np.ones(len(order), bool)
        fresh[1:] = (keys[order][1:] != keys[order][:-1]) | (
            domains[order][1:] != domains[order][:-1]
        )
        chosen = order[fresh]
        self.domains, self.text_keys = domains[chosen], keys[chosen]
        self.vectors = memmap_buffer.allocate(len(chosen), encoder.dimension)
        with report.progress("encoding the pool", len(chosen), "texts") as progress:
            for start in range(0, len(chosen), WINDOW):
                some = texts.take(pa.array(chosen[start : start + WINDOW])).to_pylist()
                self.vectors[start : start + len(some)] = encoder.encode(
                    some, "document", progress=progress
                )

    def blocks(self, domain: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """(text keys, vectors) of the texts of a domain, block by block."""
        first, last = (
            np.searchsorted(self.domains, domain, "left"),
            np.searchsorted(self.domains, domain, "right"),
        )
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            yield self.text_keys[start:stop], torch.from_numpy(np.array(self.vectors[start:stop]))


def ranker(pool: Pool, encoder: Encoder) -> Callable[[pa.RecordBatch], np.ndarray]:
    """A function from rows to the rank of each positive, int64 [sum of len(pos)]."""

    def rank(batch: pa.RecordBatch) -> np.ndarray:
        queries = queries_of(batch, encoder)
        parents = pc.list_parent_indices(batch["pos"]).to_numpy()
        positives = encoder.encode(batch["pos"].flatten().to_pylist(), "document")
        bound = torch.from_numpy(
            np.einsum("pd,pd->p", queries[parents], positives) + np.float32(NOISE)
        )
        domains = domain_keys(batch)
        names = text_keys.mix(text_keys.hash_texts(batch["query"]), domains)
        above = np.zeros(len(parents), np.int64)
        for domain in np.unique(domains):
            rows = np.flatnonzero(domains == domain)
            pairs = np.flatnonzero(domains[parents] == domain)
            place = np.searchsorted(rows, parents[pairs])
            for keys, vectors in pool.blocks(domain):
                scores = torch.from_numpy(queries[rows]) @ vectors.T  # (rows, block)
                scores[torch.from_numpy(_is_own(pool.own, names[rows], keys))] = -torch.inf
                above[pairs] += (scores[place] > bound[pairs, None]).sum(1).numpy()
        memmap_buffer.release_pages(pool.vectors)
        return above + 1

    return rank


def _is_own(own: np.ndarray, names: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Is a text a positive of the query, or the query? bool (len(names), len(keys))."""
    asked = text_keys.mix(names[:, None], keys)
    return own[np.minimum(np.searchsorted(own, asked), len(own) - 1)] == asked


def domain_keys(batch: pa.RecordBatch) -> np.ndarray:
    """A key of each row's domain, uint64 (n,); rows without one share a domain of their own."""
    return text_keys.hash_texts(schema.column(batch, "domain", pa.string()).cast(pa.string()))


def _titled(batch: pa.RecordBatch) -> pa.Array:
    """The title, one blank and the text."""
    titles = schema.column(batch, "title", pa.string()).cast(pa.string())
    return pc.binary_join_element_wise(
        pc.if_else(pc.equal(titles, ""), None, titles), batch["text"], " ", null_handling="skip"
    )
