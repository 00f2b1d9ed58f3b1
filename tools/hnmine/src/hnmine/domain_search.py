"""The candidates of one domain by rank, for blocks of its queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from fletching.report import Report
from hnmine import search
from hnmine.alternative_search import QueryTexts, bm25_finder, fused_finder, ivf_finder, recall
from hnmine.arrays import Numbers, Scores
from hnmine.pool import Domain
from hnmine.search import Finder, exact_finder
from hnmine.selection import NegativeSelector

CANDIDATES = 1 << 17  # in one frame: 5 MB
RECALL_SAMPLE = 256  # queries that --index ivf is measured on


class DomainSearch:
    """One domain, and what searching it needs.

    device: where vectors are compared.
    """

    def __init__(
        self, domain: Domain, selector: NegativeSelector, *, query_texts: QueryTexts, device: str
    ) -> None:
        self.domain = domain
        self.selector = selector
        self.query_texts = query_texts
        self.device = device
        self.evidence = selector.evidence
        self.options = selector.evidence.options
        self.queries = selector.evidence.queries
        self.rows = np.flatnonzero(self.queries.domains == domain.key)  # of the shard
        # Vectors of the domain's texts, (len(domain), D), mapped from disk.
        self.documents = selector.evidence.vectors[domain.first : domain.stop]

    def finder(self) -> Finder:
        """The way to search that the options ask for."""
        if self.options.bm25 == "alone":
            return self._bm25()
        by_vector = self._ivf() if self.options.index == "ivf" else self._exact()
        if self.options.bm25 == "fused":
            return fused_finder(by_vector, self._bm25())
        return by_vector

    def _exact(self) -> Finder:
        return exact_finder(self.queries.vectors, self.documents, self.device)

    def _ivf(self) -> Finder:
        return ivf_finder(self.queries.vectors, self.documents, self.options.probes)

    def _bm25(self) -> Finder:
        return bm25_finder(
            self.queries.vectors,
            self.documents,
            texts=self.evidence.pool.texts(self.domain.numbers).to_pylist(),
            query_texts=self.query_texts,
        )

    def blocks(self) -> Iterator[Numbers]:
        """The rows, as many at a time as are searched together."""
        size = search.block_size(self.selector.ranks.high)
        for start in range(0, len(self.rows), size):
            yield self.rows[start : start + size]

    def ranked(self, rows: Numbers, find: Finder) -> Iterator[pl.DataFrame]:
        """The candidates of these rows by rank, some rows at a time.

        Each row sees its whole range of ranks, if there is one.
        """
        width = min(self.selector.ranks.high + search.SLACK, len(self.domain))
        while len(rows):
            ranking = find(rows, width)
            short = [rows[:0]]
            step = max(CANDIDATES // width, 1)
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                ranked = self._ranked(rows[part], ranking.numbers[part], ranking.scores[part])
                if width < len(self.domain):
                    complete = self.selector.rows_with_whole_range(ranked)
                    short.append(np.setdiff1d(rows[part], complete.to_numpy()))
                    if len(short[-1]):
                        ranked = ranked.filter(pl.col("row").is_in(complete.implode()))
                yield ranked
            # Many positives and copies come before the range: look further for these queries.
            rows = np.concatenate(short)
            width = min(width * 2, len(self.domain))

    def _ranked(self, rows: Numbers, numbers: Numbers, scores: Scores) -> pl.DataFrame:
        """The frame of the nearest texts (w, k) of the rows (w,), with their ranks."""
        owners = np.repeat(rows, numbers.shape[1])
        is_text = numbers.ravel() >= 0
        candidates = self.evidence.candidates(
            owners[is_text], self.domain.first + numbers.ravel()[is_text], scores.ravel()[is_text]
        )
        return self.selector.with_ranks(candidates)

    def measure_recall(self, report: Report) -> None:
        """Compare --index ivf with the exact search on a sample of the rows, and report it."""
        step = max(len(self.rows) // RECALL_SAMPLE, 1)
        sample = self.rows[::step][:RECALL_SAMPLE]
        k = self.selector.ranks.high
        share = recall(self._ivf(), self._exact(), sample, k=k)
        measured = {
            "recall": round(share, 4),
            "at": k,
            "queries": len(sample),
            "pool": len(self.domain),
        }
        report.measures.setdefault("ivf_recall", []).append(measured)
        report.note(
            f"--index ivf finds {share:.1%} of the nearest {k} of {len(self.domain):,} texts "
            f"(on {len(sample)} queries); raise --probes for more"
        )
