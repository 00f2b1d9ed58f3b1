"""The whole of mining: encode, search, choose; the result as flat arrays, never as lists of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import text_keys
from fletching.encode import Encoder, memmap_buffer
from fletching.encode.encoder import WINDOW
from fletching.encode.reranker import Reranker
from fletching.report import Report
from hnmine import search
from hnmine.options import Options
from hnmine.pool import Pool, Spool
from hnmine.queries import Lists, Queries, queries_of
from hnmine.reranker_guard import Verdict
from hnmine.selection import Chooser

RECALL_SAMPLE = 256  # queries that --index ivf is measured on


@dataclass
class Mined:
    """Negatives of r rows, and the scores of their positives."""

    negatives: Lists
    neg_scores: np.ndarray  # float32, aligned with negatives.numbers
    pos_scores: np.ndarray  # float32, aligned with the rows' positives
    positives: Lists
    padded: np.ndarray  # int32 (r,): how many at the end of a row's negatives are padding
    kind: str  # of the scores


def mine(
    spool: Spool,
    pool: Pool,
    encoder: Encoder,
    reranker: Reranker | None,
    window: tuple[int, int],
    options: Options,
    report: Report,
) -> Mined:
    """Negatives for the rows of the spool's shard."""
    vectors = _encoded(pool, encoder, report)
    queries = queries_of(
        spool, pool, vectors, encoder, options.keep_neg, options.exclude_qrels, options.seed, report
    )
    verdict = (
        Verdict(reranker, queries, pool, asker(spool), options.reranker_margin)
        if reranker
        else None
    )
    chooser = Chooser(queries, pool, vectors, verdict, window, options)
    parts: list[
        tuple[np.ndarray, np.ndarray, np.ndarray, int]
    ] = []  # (row, number, cosine, padding?)
    with report.progress("mining", len(queries.names)) as progress:
        for domain, first, last in pool.domains_of():
            rows = np.flatnonzero(queries.domains == domain)
            if len(rows):
                parts += _mined_of_domain(
                    rows,
                    first,
                    last,
                    queries,
                    pool,
                    vectors,
                    chooser,
                    encoder,
                    spool,
                    options,
                    report,
                    progress,
                )
    mined = _gathered(parts, queries, vectors, verdict)
    _tell(mined, chooser, pool, queries, options, report)
    return mined


def _encoded(pool: Pool, encoder: Encoder, report: Report) -> np.ndarray:
    """Vectors of the pool and of its variants, float32 (pool.vectors_needed, D), mapped from disk."""
    vectors = memmap_buffer.allocate(pool.vectors_needed, encoder.dimension)
    with report.progress("encoding the pool", len(vectors), "texts") as progress:
        for start in range(0, len(vectors), WINDOW):
            numbers = np.arange(start, min(start + WINDOW, len(vectors)))
            vectors[start : start + len(numbers)] = encoder.encode(
                pool.texts(numbers).to_pylist(), "document", progress=progress
            )
            memmap_buffer.release_pages(vectors)
    return vectors


def asker(spool: Spool) -> Any:
    """A function from rows to their query texts."""
    queries = pa.chunked_array([unit["query"] for unit in spool.units], pa.string())
    return lambda rows: queries.take(pa.array(rows)).to_pylist()


def _mined_of_domain(
    rows: np.ndarray,
    first: int,
    last: int,
    queries: Queries,
    pool: Pool,
    vectors: np.ndarray,
    chooser: Chooser,
    encoder: Encoder,
    spool: Spool,
    options: Options,
    report: Report,
    progress: Any,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    documents = vectors[first:last]
    texts = lambda: pool.texts(np.arange(first, last)).to_pylist()  # noqa: E731
    find = search.finder(
        options, queries.vectors, documents, encoder.devices[0], texts, asker(spool)
    )
    if options.index == "ivf" and options.bm25 != "alone":
        _measure_recall(
            rows, queries, documents, chooser.window[1], options, encoder.devices[0], report
        )
    parts = []
    size = search.block_size(chooser.window[1])
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        for some, numbers, cosines in _ranked(block, find, first, chooser, last - first):
            i, number, cosine = chooser.choose(some, numbers, cosines)
            parts.append((some[i], number, cosine, 0))
            if options.pad:
                missing = options.negatives - np.bincount(i, minlength=len(some))
                item, old = queries.old.of(some)
                taken = np.unique(
                    text_keys.mix(
                        np.concatenate([some[i], some[item]]), np.concatenate([number, old])
                    )
                )
                i, number = chooser.pad(some, first, last, missing, taken)
                parts.append(
                    (
                        some[i],
                        number,
                        memmap_buffer.pairwise_dot(queries.vectors, some[i], vectors, number),
                        1,
                    )
                )
        progress.advance(len(block))
        memmap_buffer.release_pages(vectors)
    return parts


def _ranked(block: np.ndarray, find: search.Finder, first: int, chooser: Chooser, size: int) -> Any:
    """(rows, numbers, cosines) in which each row sees its whole window of ranks, as far as the domain has one."""
    k = min(chooser.window[1] + search.SLACK, size)
    while len(block):
        numbers, cosines = find(block, k)
        numbers = np.where(numbers < 0, -1, numbers + first)
        seen = chooser.enough(block, numbers) | (k == size)
        if seen.any():
            yield block[seen], numbers[seen], cosines[seen]
        # Many positives and copies stood before the window: look further for these queries.
        block, k = block[~seen], min(k * 2, size)


def _measure_recall(
    rows: np.ndarray,
    queries: Queries,
    documents: np.ndarray,
    k: int,
    options: Options,
    device: str,
    report: Report,
) -> None:
    sample = rows[:: max(len(rows) // RECALL_SAMPLE, 1)][:RECALL_SAMPLE]
    approximate, exact = (
        search.ivf(queries.vectors, documents, options.probes),
        search.dense(queries.vectors, documents, device),
    )
    share = search.recall(approximate, exact, sample, k)
    report.measures.setdefault("ivf_recall", []).append(
        {"recall": round(share, 4), "at": k, "queries": len(sample), "pool": len(documents)}
    )
    report.note(
        f"--index ivf finds {share:.1%} of the nearest {k} of {len(documents):,} texts (on {len(sample)} queries); raise --probes for more"
    )


def _gathered(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]],
    queries: Queries,
    vectors: np.ndarray,
    verdict: Verdict | None,
) -> Mined:
    """Old negatives first, then the mined ones, then padding, row by row."""
    rows, old = queries.old.rows, queries.old.numbers
    parts = [
        (rows, old, memmap_buffer.pairwise_dot(queries.vectors, rows, vectors, old), -1),
        *parts,
    ]
    row, number, cosine = (np.concatenate([part[i] for part in parts]) for i in range(3))
    rank = np.concatenate([np.full(len(part[0]), part[3], np.int8) for part in parts])
    order = np.lexsort((rank, row))  # stable: within a row as they were chosen
    row, number, cosine, rank = row[order], number[order], cosine[order], rank[order]
    offsets = np.searchsorted(row, np.arange(len(queries.names) + 1))
    padded = np.bincount(row[rank == 1], minlength=len(queries.names)).astype(np.int32)
    pos_scores, kind = queries.pos_scores, "cosine"
    if verdict is not None:
        cosine, kind = verdict.score(row, number), "reranker"
        pos_scores = verdict.score(queries.positives.rows, queries.positives.numbers)
    return Mined(Lists(number, offsets), cosine, pos_scores, queries.positives, padded, kind)


def _tell(
    mined: Mined, chooser: Chooser, pool: Pool, queries: Queries, options: Options, report: Report
) -> None:
    found = np.diff(mined.negatives.offsets) - np.diff(queries.old.offsets) - mined.padded
    short = int((found < options.negatives).sum())
    removed = {reason: count for reason, count in sorted(chooser.removed.items()) if count}
    report.measures |= {
        "removed_by_guard": removed,
        "rows_short_of_negatives": short,
        "pool": len(pool),
        "padded": int(mined.padded.sum()),
    }
    if short:
        padded = f", of which {int((mined.padded > 0).sum()):,} are padded" if options.pad else ""
        report.note(
            f"{short:,} rows have fewer than {options.negatives} negatives{padded}; widen --range, loosen a guard or add a --corpus"
        )
