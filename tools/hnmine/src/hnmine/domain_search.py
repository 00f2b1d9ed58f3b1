"""The candidates of one domain by rank, for blocks of its queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fletching.report import Report
from hnmine import search
from hnmine.alternative_search import (
    QueryTexts,
    bm25_finder,
    fused_finder,
    ivf_finder,
    recall,
)
from hnmine.arrays import Numbers, Vectors
from hnmine.guards import GuardChain, NegativeCandidates
from hnmine.options import Options
from hnmine.pool import DocumentPool, Domain
from hnmine.queries import MinedQueries
from hnmine.rank_range import RankRange
from hnmine.search import Finder, exact_finder
from hnmine.selection import RankedCandidates

RECALL_SAMPLE = 256  # queries that --index ivf is measured on


@dataclass(frozen=True, kw_only=True)
class DomainSearch:
    """One domain, and what searching it needs."""

    domain: Domain
    rows: Numbers  # of the shard, with this domain
    guards: GuardChain
    ranks: RankRange
    query_texts: QueryTexts
    device: str

    @property
    def documents(self) -> Vectors:
        """Vectors of the domain's texts, (len(domain), D), mapped from disk."""
        return self.guards.evidence.vectors[self.domain.first : self.domain.stop]

    @property
    def options(self) -> Options:
        """The options of the run."""
        return self.guards.evidence.options

    @property
    def queries(self) -> MinedQueries:
        """The rows of the shard as queries."""
        return self.guards.evidence.queries

    @property
    def pool(self) -> DocumentPool:
        """The pool that the domain is a part of."""
        return self.guards.evidence.pool

    def finder(self) -> Finder:
        """The way to search that the options ask for."""
        if self.options.bm25 == "alone":
            return self._bm25()
        if self.options.index == "ivf":
            by_vector = ivf_finder(self.queries.vectors, self.documents, self.options.probes)
        else:
            by_vector = exact_finder(self.queries.vectors, self.documents, self.device)
        if self.options.bm25 == "fused":
            return fused_finder(by_vector, self._bm25())
        return by_vector

    def _bm25(self) -> Finder:
        return bm25_finder(
            self.queries.vectors,
            self.documents,
            texts=self.pool.texts(self.domain.numbers).to_pylist(),
            query_texts=self.query_texts,
        )

    def blocks(self) -> Iterator[Numbers]:
        """The rows, as many at a time as are searched together."""
        size = search.block_size(self.ranks.high)
        for start in range(0, len(self.rows), size):
            yield self.rows[start : start + size]

    def ranked(self, rows: Numbers, find: Finder) -> Iterator[RankedCandidates]:
        """The candidates of these rows; each row sees its whole range of ranks, if there is one."""
        width = min(self.ranks.high + search.SLACK, len(self.domain))
        while len(rows):
            ranked = self._search(rows, find, width)
            if width == len(self.domain):
                is_complete = np.ones(len(rows), bool)
            else:
                is_complete = ranked.sees(self.ranks, raw=self.options.raw_range)
            if is_complete.any():
                yield ranked.where(is_complete)
            # Many positives and copies come before the range: look further for these queries.
            rows = rows[~is_complete]
            width = min(width * 2, len(self.domain))

    def _search(self, rows: Numbers, find: Finder, width: int) -> RankedCandidates:
        """The nearest `width` texts of each row."""
        ranking = find(rows, width)
        lowest = self.queries.lowest_positive_scores[self.queries.groups[rows]]
        candidates = NegativeCandidates(
            rows=rows[:, None],
            numbers=np.where(ranking.numbers < 0, -1, ranking.numbers + self.domain.first),
            scores=ranking.scores,
            positive_scores=lowest[:, None],
        )
        without_rank = self.guards.without_rank(candidates)
        return RankedCandidates(candidates=candidates, without_rank=without_rank)

    def measure_recall(self, report: Report) -> None:
        """Compare --index ivf with the exact search on a sample of the rows, and report it."""
        step = max(len(self.rows) // RECALL_SAMPLE, 1)
        sample = self.rows[::step][:RECALL_SAMPLE]
        vectors = self.queries.vectors
        approximate = ivf_finder(vectors, self.documents, self.options.probes)
        exact = exact_finder(vectors, self.documents, self.device)
        k = self.ranks.high
        share = recall(approximate, exact, sample, k=k)
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
