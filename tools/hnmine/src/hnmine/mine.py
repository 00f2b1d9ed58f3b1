"""One mining run over a whole pool: encode, search, select; the result as one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from fletching.protocols import TextEncoder
from fletching.report import Report
from hnmine.hybrid_scores import HybridScores
from hnmine.mined_negatives import MinedNegatives, PoolSize, Scorer, report_account, scored
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.queries import MiningRows
from hnmine.ranked_pool import RankedPool
from hnmine.selection import NegativeKind, with_kind

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker


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
    ranked_pool = RankedPool(
        rows,
        pool,
        encoder=encoder,
        reranker=reranker,
        ranks=ranks,
        options=options,
        report=report,
    )
    selector = ranked_pool.selector
    chosen = [with_kind(ranked_pool.old_negatives(), NegativeKind.OLD)]
    chosen += [selector.select(ranked) for ranked in ranked_pool.batches()]
    if options.pad:
        mined = pl.concat(chosen).filter(pl.col("kind") == NegativeKind.MINED)
        for search in ranked_pool.searches:
            chosen.append(selector.pad(search.rows, mined, search.domain))
    negatives = pl.concat(chosen).sort("row", "kind", maintain_order=True)
    rows_without_texts = int((~ranked_pool.has_texts).sum())
    size = PoolSize(texts=len(pool), rows_without_texts=rows_without_texts)
    report_account(negatives, selector.guards, pool=size, report=report)
    evidence = selector.evidence
    scorer: Scorer | None = evidence.reranker
    if options.scores == "hybrid":
        scorer = HybridScores(evidence, pool)
    positives = evidence.queries.positives
    return scored(negatives, positives, scorer=scorer, kind=options.score_kind)
