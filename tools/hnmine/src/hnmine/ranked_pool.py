"""A pool encoded and searched: for each row of the shard its candidates by rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fletching.arrays import Mask, Numbers, Vectors
from fletching.encode import memmap_buffer
from fletching.encode.batching import WINDOW
from fletching.encode.opening import device_of, reference_of
from fletching.protocols import TextEncoder
from fletching.report import Report
from hnmine.candidates import Evidence, RerankerScores
from hnmine.domain_search import CANDIDATES, DomainSearch
from hnmine.guards import GuardChain
from hnmine.int8_overlap import note_overlap
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.queries import MiningRows, build_queries
from hnmine.selection import NegativeSelector

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker


class RankedPool:
    """What ranks the texts of a pool, or of a part of one, for the rows of a shard.

    ranks: those of --range, counted from 1.
    """

    def __init__(
        self,
        rows: MiningRows,
        pool: DocumentPool,
        *,
        encoder: TextEncoder,
        reranker: Reranker | None = None,
        ranks: range,
        options: Options,
        report: Report,
    ) -> None:
        self.report = report
        vectors = memmap_buffer.store(_encoded_pool(pool, encoder, report), encoder.dimension)
        self.evidence = Evidence(
            options=options,
            queries=build_queries(
                rows, pool, vectors, encoder=encoder, options=options, report=report
            ),
            pool=pool,
            vectors=vectors,
            query_texts=rows.query_texts,
            reranker=RerankerScores(reranker, pool, rows.query_texts) if reranker else None,
        )
        guards = GuardChain(self.evidence)
        self.selector = NegativeSelector(guards, low=ranks[0], high=ranks[-1])
        device = device_of(encoder)
        self.searches = [DomainSearch(domain, self.selector, device) for domain in pool.domains]
        reference = reference_of(encoder)
        if reference is not None and self.searches:
            note_overlap(self.searches, rows, pool, reference=reference, report=report)

    @property
    def has_texts(self) -> Mask:
        """Has the pool texts of the row's domain? (r,)."""
        domains = np.array([search.domain.key for search in self.searches], np.uint64)
        return np.isin(self.evidence.queries.domains, domains)

    def old_negatives(self) -> pl.DataFrame:
        """The negatives that are kept, as candidates with their scores."""
        return self.evidence.candidates(*_columns(self.evidence.queries.old_negatives))

    def batches(self) -> Iterator[pl.DataFrame]:
        """The candidates of all rows by rank, whole rows at a time."""
        for ranked in _in_batches(self._ranked()):
            yield ranked
            memmap_buffer.release_pages(self.evidence.vectors)

    def _ranked(self) -> Iterator[pl.DataFrame]:
        total = sum(len(search.rows) for search in self.searches)
        with self.report.progress("mining", total) as progress:
            for search in self.searches:
                for rows, ranked in search.candidates(self.report):
                    yield ranked
                    progress.advance(rows)


def _encoded_pool(pool: DocumentPool, encoder: TextEncoder, report: Report) -> Iterator[Vectors]:
    """Vectors of the pool and of its variants, window by window."""
    with report.progress("encoding the pool", pool.vectors_needed, "texts") as progress:
        for start in range(0, pool.vectors_needed, WINDOW):
            numbers = np.arange(start, min(start + WINDOW, pool.vectors_needed))
            yield encoder.encode(pool.texts(numbers).to_pylist(), "document", progress=progress)


def _columns(pairs: pl.DataFrame) -> tuple[Numbers, Numbers]:
    """The rows and the candidates of pairs."""
    return pairs["row"].to_numpy(), pairs["candidate"].to_numpy()


def _in_batches(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows in larger frames: selecting in a small one costs as much as in a large one."""
    batch: list[pl.DataFrame] = []
    for frame in frames:
        batch.append(frame)
        if sum(each.height for each in batch) >= CANDIDATES // 2:
            yield pl.concat(batch)
            batch = []
    if batch:
        yield pl.concat(batch)
