"""One mining run: encode, search, select; the result as flat arrays, never as lists of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from fletching.encode import memmap_buffer
from fletching.encode.batching import WINDOW
from fletching.encode.reranker import Reranker
from fletching.protocols import TextEncoder
from fletching.report import Report
from fletching.table import RaggedArray
from hnmine.arrays import Vectors
from hnmine.candidates import Evidence
from hnmine.domain_search import CANDIDATES, DomainSearch
from hnmine.guards import GuardChain
from hnmine.mining_rows import MiningRows
from hnmine.models import search_device
from hnmine.options import Options
from hnmine.padding import pad
from hnmine.pool import DocumentPool
from hnmine.queries import build_queries
from hnmine.rank_range import RankRange
from hnmine.reranker_scores import RerankerScores
from hnmine.selection import NegativeKind, NegativeSelector, with_kind


@dataclass(frozen=True, kw_only=True)
class MinedNegatives:
    """The negatives of r rows, and the scores of their positives."""

    negatives: RaggedArray  # pool numbers, a list for each row
    negative_scores: RaggedArray
    positive_scores: RaggedArray
    padded: npt.NDArray[np.int32]  # (r,): how many at the end of a row's negatives are padding
    score_kind: str

    def slice(self, start: int, stop: int) -> MinedNegatives:
        """Those of the rows from `start` up to `stop`."""
        return replace(
            self,
            negatives=self.negatives.slice(start, stop),
            negative_scores=self.negative_scores.slice(start, stop),
            positive_scores=self.positive_scores.slice(start, stop),
            padded=self.padded[start:stop],
        )


def mine_negatives(
    rows: MiningRows,
    pool: DocumentPool,
    *,
    encoder: TextEncoder,
    reranker: Reranker | None,
    ranks: RankRange,
    options: Options,
    report: Report,
) -> MinedNegatives:
    """Negatives for the rows of this shard."""
    vectors = _encoded_pool(pool, encoder, report)
    queries = build_queries(rows, pool, vectors, encoder=encoder, options=options, report=report)
    reranker_scores = None
    if reranker is not None:
        reranker_scores = RerankerScores(
            reranker, queries=queries, pool=pool, query_texts=rows.query_texts
        )
    evidence = Evidence(
        options=options, queries=queries, pool=pool, vectors=vectors, reranker=reranker_scores
    )
    selector = NegativeSelector(GuardChain(evidence), ranks)
    searches = [
        DomainSearch(domain, selector, query_texts=rows.query_texts, device=search_device(encoder))
        for domain in pool.domains
    ]
    chosen = [_old_negatives(evidence)]
    for ranked in _in_batches(_ranked_candidates(searches, report)):
        chosen.append(selector.select(ranked))
        memmap_buffer.release_pages(vectors)
    if options.pad:
        mined_alone = pl.concat(chosen).filter(pl.col("kind") == NegativeKind.MINED)
        for search in searches:
            chosen.append(
                pad(search.rows, mined_alone, guards=selector.guards, domain=search.domain)
            )
    mined = _gathered(chosen, evidence)
    _account(mined, selector.guards, report)
    return mined


def _encoded_pool(pool: DocumentPool, encoder: TextEncoder, report: Report) -> Vectors:
    """Vectors of the pool and of its variants, (pool.vectors_needed, D), mapped from disk."""
    vectors = memmap_buffer.allocate(pool.vectors_needed, encoder.dimension)
    with report.progress("encoding the pool", len(vectors), "texts") as progress:
        for start in range(0, len(vectors), WINDOW):
            numbers = np.arange(start, min(start + WINDOW, len(vectors)))
            texts = pool.texts(numbers).to_pylist()
            block = encoder.encode(texts, "document", progress=progress)
            vectors[start : start + len(numbers)] = block
            memmap_buffer.release_pages(vectors)
    return vectors


def _ranked_candidates(searches: list[DomainSearch], report: Report) -> Iterator[pl.DataFrame]:
    """The candidates of the rows of each domain by rank, some rows at a time."""
    with report.progress("mining", sum(len(search.rows) for search in searches)) as progress:
        for search in searches:
            if not len(search.rows):
                continue
            find = search.finder()
            if search.options.index == "ivf" and search.options.bm25 != "alone":
                search.measure_recall(report)
            for block in search.blocks():
                yield from search.ranked(block, find)
                progress.advance(len(block))


def _in_batches(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows in larger frames: selecting in a small one costs as much as in a large one."""
    batch: list[pl.DataFrame] = []
    height = 0
    for frame in frames:
        batch.append(frame)
        height += frame.height
        if height >= CANDIDATES // 2:
            yield pl.concat(batch)
            batch, height = [], 0
    if batch:
        yield pl.concat(batch)


def _old_negatives(evidence: Evidence) -> pl.DataFrame:
    """The negatives of the input that are kept, with their scores."""
    rows = evidence.queries.old_negatives.owners
    numbers = evidence.queries.old_negatives.values
    candidates = evidence.candidates(rows, numbers, evidence.cosines(rows, numbers))
    return with_kind(candidates, NegativeKind.OLD)


def _gathered(chosen: list[pl.DataFrame], evidence: Evidence) -> MinedNegatives:
    """Old negatives first, then the mined ones, then padding, row by row."""
    queries = evidence.queries
    every = pl.concat(chosen).sort("row", "kind", maintain_order=True)
    is_padding = pl.col("kind") == NegativeKind.PADDING
    scores = every["score"]
    positive_scores = queries.positive_scores
    score_kind = "cosine"
    if evidence.reranker is not None:
        scores = evidence.reranker.scores(every)
        positive_scores = evidence.reranker.scores(queries.positives_frame).to_numpy()
        score_kind = "reranker"
    counts = _count_by_row(every, len(queries))
    return MinedNegatives(
        negatives=RaggedArray.from_lengths(every["candidate"].to_numpy(), counts),
        negative_scores=RaggedArray.from_lengths(scores.to_numpy(), counts),
        positive_scores=RaggedArray(positive_scores, queries.positives.offsets),
        padded=_count_by_row(every.filter(is_padding), len(queries)),
        score_kind=score_kind,
    )


def _count_by_row(negatives: pl.DataFrame, rows: int) -> npt.NDArray[np.int32]:
    """How many each of the rows has, (rows,)."""
    return np.bincount(negatives["row"].to_numpy(), minlength=rows).astype(np.int32)


def _account(mined: MinedNegatives, guards: GuardChain, report: Report) -> None:
    """What the guards removed and which rows are short, for the summary and the user."""
    evidence = guards.evidence
    wanted = evidence.options.negative_count
    lengths = mined.negatives.lengths - evidence.queries.old_negatives.lengths - mined.padded
    short = int(np.count_nonzero(lengths < wanted))
    removed = {name: count for name, count in sorted(guards.removed.items()) if count}
    report.measures |= {
        "removed_by_guard": removed,
        "rows_short_of_negatives": short,
        "pool": len(evidence.pool),
        "padded": int(mined.padded.sum()),
    }
    keys = np.array([domain.key for domain in evidence.pool.domains], np.uint64)
    without_pool = int(np.count_nonzero(~np.isin(evidence.queries.domains, keys)))
    if without_pool:
        report.note(f"{without_pool:,} rows are of a domain of which the pool has no text")
    if short:
        padded_rows = np.count_nonzero(mined.padded)
        padding = f", of which {padded_rows:,} are padded" if evidence.options.pad else ""
        report.note(
            f"{short:,} rows have fewer than {wanted} negatives{padding}; "
            "widen --range, loosen a guard or add a --corpus"
        )
