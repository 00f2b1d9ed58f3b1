"""The candidates of one domain by rank, for blocks of its queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from fletching.arrays import Numbers
from fletching.report import Report
from hnmine import search
from hnmine.alternative_search import bm25_finder, fused_finder, ivf_finder, recall
from hnmine.pool import Domain
from hnmine.search import Finder, Ranking, exact_finder
from hnmine.selection import NegativeSelector

CANDIDATES = 1 << 17  # in one frame: 5 MB
RECALL_SAMPLE = 256  # queries that --index ivf is measured on


class DomainSearch:
    """One domain, and what searching it needs. device: where vectors are compared."""

    def __init__(self, domain: Domain, selector: NegativeSelector, device: str) -> None:
        self.domain = domain
        self.selector = selector
        self.device = device
        self.evidence = selector.evidence
        self.queries = selector.evidence.queries.vectors
        domains = selector.evidence.queries.domains
        self.rows = np.flatnonzero(domains == domain.key)  # of the shard
        # Vectors of the domain's texts, (len(domain), D), mapped from disk.
        self.documents = selector.evidence.vectors[domain.first : domain.stop]

    def candidates(self, report: Report) -> Iterator[tuple[int, pl.DataFrame]]:
        """(rows that are finished with it, candidates of some rows by rank)."""
        if not len(self.rows):
            return
        find = self._finder(report)
        size = search.block_size(self.selector.high)
        for start in range(0, len(self.rows), size):
            block = self.rows[start : start + size]
            for ranked in self._ranked(block, find):
                yield ranked["row"].n_unique(), ranked

    def _finder(self, report: Report) -> Finder:
        """The way to search that the options ask for."""
        options = self.evidence.options
        if options.bm25 == "alone":
            return self._bm25_finder()
        find = exact_finder(self.queries, self.documents, self.device)
        if options.index == "ivf":
            exact, find = find, ivf_finder(self.queries, self.documents, options.probes)
            self._measure_recall(find, exact, report)
        return fused_finder(find, self._bm25_finder()) if options.bm25 == "fused" else find

    def _bm25_finder(self) -> Finder:
        numbers = np.arange(self.domain.first, self.domain.stop)
        texts = self.evidence.pool.texts(numbers).to_pylist()
        return bm25_finder(
            self.queries, self.documents, texts=texts, query_texts=self.evidence.query_texts
        )

    def _ranked(self, rows: Numbers, find: Finder) -> Iterator[pl.DataFrame]:
        """The candidates of these rows by rank, some rows at a time.

        Each row sees its whole range of ranks, if there is one.
        """
        width = min(self.selector.high + search.SLACK, len(self.domain))
        while len(rows):
            ranking = find(rows, width)
            short = [rows[:0]]
            step = max(CANDIDATES // width, 1)
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                nearest = Ranking(ranking.numbers[part], ranking.scores[part])
                ranked = self._frame(rows[part], nearest)
                if width < len(self.domain):
                    complete = ranked.filter(pl.col("rank") >= self.selector.last)["row"].unique()
                    short.append(np.setdiff1d(rows[part], complete.to_numpy()))
                    if len(short[-1]):
                        ranked = ranked.filter(pl.col("row").is_in(complete.implode()))
                yield ranked
            # Many positives and copies come before the range: look further for these queries.
            rows = np.concatenate(short)
            width = min(width * 2, len(self.domain))

    def _frame(self, rows: Numbers, ranking: Ranking) -> pl.DataFrame:
        """The nearest texts (w, k) of the rows (w,), with their ranks."""
        owners = np.repeat(rows, ranking.numbers.shape[1])
        numbers = ranking.numbers.ravel()
        scores = ranking.scores.ravel()
        is_text = numbers >= 0
        if not is_text.all():
            owners, numbers, scores = owners[is_text], numbers[is_text], scores[is_text]
        candidates = self.evidence.candidates(owners, self.domain.first + numbers, scores)
        return self.selector.with_ranks(candidates)

    def _measure_recall(self, find: Finder, exact: Finder, report: Report) -> None:
        """Compare --index ivf with the exact search on a sample of the rows, and report it."""
        step = max(len(self.rows) // RECALL_SAMPLE, 1)
        sample = self.rows[::step][:RECALL_SAMPLE]
        k = self.selector.high
        share = recall(find, exact, sample, k=k)
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
