"""One mining run: encode, search, select; the result as one frame of negatives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fletching.arrays import Numbers, Scores, Vectors
from fletching.encode import memmap_buffer
from fletching.encode.batching import WINDOW
from fletching.encode.opening import device_of
from fletching.protocols import TextEncoder
from fletching.report import Report
from hnmine.candidates import Evidence, RerankerScores
from hnmine.domain_search import CANDIDATES, DomainSearch
from hnmine.guards import GuardChain
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.queries import MiningRows, build_queries
from hnmine.selection import NegativeKind, NegativeSelector, with_kind

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker


@dataclass(frozen=True, kw_only=True)
class MinedNegatives:
    """The negatives of the rows of a shard, and the scores of their positives."""

    negatives: pl.DataFrame  # row, candidate, score, kind: row by row, in the order written
    positive_scores: Scores  # of the positives of all rows, end to end
    score_kind: str


def mine_negatives(
    rows: MiningRows,
    pool: DocumentPool,
    *,
    encoder: TextEncoder,
    reranker: Reranker | None,
    ranks: range,
    options: Options,
    report: Report,
) -> MinedNegatives:
    """Negatives for the rows of this shard. ranks: those of --range, counted from 1."""
    vectors = memmap_buffer.store(_encoded_pool(pool, encoder, report), encoder.dimension)
    queries = build_queries(rows, pool, vectors, encoder=encoder, options=options, report=report)
    evidence = Evidence(
        options=options,
        queries=queries,
        pool=pool,
        vectors=vectors,
        query_texts=rows.query_texts,
        reranker=RerankerScores(reranker, pool, rows.query_texts) if reranker else None,
    )
    selector = NegativeSelector(GuardChain(evidence), low=ranks[0], high=ranks[-1])
    device = device_of(encoder)
    searches = [DomainSearch(domain, selector, device) for domain in pool.domains]
    old = evidence.candidates(*_columns(queries.old_negatives))
    chosen = [with_kind(old, NegativeKind.OLD)]
    for ranked in _in_batches(_ranked_candidates(searches, report)):
        chosen.append(selector.select(ranked))
        memmap_buffer.release_pages(vectors)
    if options.pad:
        mined = pl.concat(chosen).filter(pl.col("kind") == NegativeKind.MINED)
        chosen += [selector.pad(search.rows, mined, search.domain) for search in searches]
    negatives = pl.concat(chosen).sort("row", "kind", maintain_order=True)
    _account(negatives, selector.guards, report)
    return _scored(negatives, evidence)


def _encoded_pool(pool: DocumentPool, encoder: TextEncoder, report: Report) -> Iterator[Vectors]:
    """Vectors of the pool and of its variants, window by window."""
    with report.progress("encoding the pool", pool.vectors_needed, "texts") as progress:
        for start in range(0, pool.vectors_needed, WINDOW):
            numbers = np.arange(start, min(start + WINDOW, pool.vectors_needed))
            yield encoder.encode(pool.texts(numbers).to_pylist(), "document", progress=progress)


def _columns(pairs: pl.DataFrame) -> tuple[Numbers, Numbers]:
    """The rows and the candidates of pairs."""
    return pairs["row"].to_numpy(), pairs["candidate"].to_numpy()


def _ranked_candidates(searches: list[DomainSearch], report: Report) -> Iterator[pl.DataFrame]:
    """The candidates of the rows of each domain by rank, some rows at a time."""
    with report.progress("mining", sum(len(search.rows) for search in searches)) as progress:
        for search in searches:
            for rows, ranked in search.candidates(report):
                yield ranked
                progress.advance(rows)


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


def _scored(negatives: pl.DataFrame, evidence: Evidence) -> MinedNegatives:
    """With the scores that are written: cosines, or those of the --reranker."""
    positives = evidence.queries.positives
    if evidence.reranker is None:
        return MinedNegatives(
            negatives=negatives,
            positive_scores=positives["score"].to_numpy(),
            score_kind="cosine",
        )
    return MinedNegatives(
        negatives=negatives.with_columns(score=evidence.reranker.scores(negatives)),
        positive_scores=evidence.reranker.scores(positives).to_numpy(),
        score_kind="reranker",
    )


def _account(negatives: pl.DataFrame, guards: GuardChain, report: Report) -> None:
    """What the guards removed and which rows are short, for the summary and the user."""
    evidence = guards.evidence
    wanted = evidence.options.negative_count
    rows = len(evidence.queries)
    padding = negatives.filter(pl.col("kind") == NegativeKind.PADDING)["row"]
    mined = negatives.filter(pl.col("kind") == NegativeKind.MINED)["row"]
    counts = mined.value_counts()["count"]
    short = rows - int((counts >= wanted).sum())
    report.measures |= {
        "removed_by_guard": {name: n for name, n in sorted(guards.removed.items()) if n},
        "rows_short_of_negatives": short,
        "pool": len(evidence.pool),
        "padded": len(padding),
    }
    domains = np.array([domain.key for domain in evidence.pool.domains], np.uint64)
    without_pool = rows - int(np.isin(evidence.queries.domains, domains).sum())
    if without_pool:
        report.note(f"{without_pool:,} rows are of a domain of which the pool has no text")
    if short:
        padded = f", of which {padding.n_unique():,} are padded" if evidence.options.pad else ""
        report.note(
            f"{short:,} rows have fewer than {wanted} negatives{padded}; "
            "widen --range, loosen a guard or add a --corpus"
        )
