"""The texts of one domain that rank first for a block of queries: by vectors, by words, or by both.

A finder is a function (rows, k) -> numbers, int64, and cosines, float32, (len(rows), k) each, best first, number -1
where there is nothing. Cosines are computed pair by pair (`fletching.encode.memmap_buffer`), so they depend on no block; ties
go to the smaller number, that is by content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fletching.encode import memmap_buffer
from fletching.errors import UsageError
from hnmine import bf16_topk
from hnmine.options import Options

QUERY_BLOCK = 16_384  # searched at a time, fewer with a large k: FAISS is 16-30 times slower with small blocks
FOUND = 1 << 22  # numbers of a block
DOCUMENT_BLOCK = 131_072  # documents compared at a time; the others stay on disk
SLACK = 16  # found beyond k, so that rounding in a block cannot lose a text
RANK_OFFSET = 60  # of reciprocal rank fusion (Cormack et al., SIGIR 2009)
NOISE = 1e-5  # a matrix product in float32 differs from `store.dots` by less

Found = tuple[np.ndarray, np.ndarray]
Finder = Callable[[np.ndarray, int], Found]


def block_size(k: int) -> int:
    """How many queries are searched at a time for k texts each."""
    return min(max(FOUND // k, 1024), QUERY_BLOCK)


def dense(queries: np.ndarray, documents: np.ndarray, device: str) -> Finder:
    """Exact inner products. On a GPU torch multiplies and selects; on a CPU `tiles` where it can, else FAISS."""
    by_tiles = device == "cpu" and bf16_topk.available()

    def find(rows: np.ndarray, k: int) -> Found:
        k = min(k, len(documents))
        numbers, scores = np.empty((len(rows), k), np.int64), np.empty((len(rows), k), np.float32)
        waiting, wide = (
            np.arange(len(rows)),
            min((k * 3 // 2 if by_tiles else k) + SLACK, len(documents)),
        )
        while len(waiting):
            asked = np.ascontiguousarray(queries[rows[waiting]])
            bound, near = (
                bf16_topk.top(asked, documents, wide)
                if by_tiles
                else _top(asked, documents, wide, device)
            )
            near, exact = _ranked(asked, documents, near)
            numbers[waiting], scores[waiting] = near[:, :k], exact[:, :k]
            # What was not found scores at most `bound`: the first k must stand clear of it.
            clear = (exact[:, k - 1] > bound) | (wide == len(documents))
            waiting, wide = waiting[~clear], min(wide * 2, len(documents))
        return numbers, scores

    return find


def _ranked(asked: np.ndarray, documents: np.ndarray, numbers: np.ndarray) -> Found:
    """numbers (w, k) by falling exact score, and those scores."""
    scores = memmap_buffer.block_dot(asked, documents, numbers)
    order = np.lexsort((numbers, -scores), axis=1)
    return np.take_along_axis(numbers, order, 1), np.take_along_axis(scores, order, 1)


def _top(queries: np.ndarray, documents: np.ndarray, k: int, device: str) -> Found:
    """(a bound (w,) above every exact score that was not found, numbers (w, k)), block by block of the documents."""
    search = _torch if device.startswith("cuda") else _faiss
    best: Found | None = None
    for start in range(0, len(documents), DOCUMENT_BLOCK):
        block = np.asarray(documents[start : start + DOCUMENT_BLOCK])
        scores, numbers = search(queries, block, min(k, len(block)), device)
        numbers = numbers + start
        if best is not None:
            scores, numbers = (
                np.concatenate([best[0], scores], 1),
                np.concatenate([best[1], numbers], 1),
            )
        if scores.shape[1] > k:
            places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores, numbers = (
                np.take_along_axis(scores, places, 1),
                np.take_along_axis(numbers, places, 1),
            )
        best = scores, numbers
        memmap_buffer.release_pages(documents)
    assert best is not None
    return best[0].min(1) + NOISE, best[1]


def _faiss(queries: np.ndarray, documents: np.ndarray, k: int, device: str) -> Found:
    import faiss

    return faiss.knn(queries, documents, k, metric=faiss.METRIC_INNER_PRODUCT)


def _torch(queries: np.ndarray, documents: np.ndarray, k: int, device: str) -> Found:
    import torch

    held = torch.from_numpy(documents).to(device)  # (n, D)
    best = [
        torch.topk(
            torch.from_numpy(queries[start : start + 512]).to(device) @ held.T, k, sorted=False
        )
        for start in range(0, len(queries), 512)
    ]
    return torch.cat([part.values for part in best]).cpu().numpy(), torch.cat(
        [part.indices for part in best]
    ).cpu().numpy()


# --- opt-in ---------------------------------------------------------------------------------------


def ivf(queries: np.ndarray, documents: np.ndarray, probes: int) -> Finder:
    """FAISS's inverted lists, 4√n of them, of which `probes` are searched: fast and not exact."""
    import faiss

    lists = max(min(int(4 * len(documents) ** 0.5), len(documents) // 39), 1)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(documents.shape[1]), documents.shape[1], lists, faiss.METRIC_INNER_PRODUCT
    )
    step = max(len(documents) // max(lists * 64, 1), 1)
    index.train(np.ascontiguousarray(documents[::step]))
    for start in range(0, len(documents), DOCUMENT_BLOCK):
        index.add(np.ascontiguousarray(documents[start : start + DOCUMENT_BLOCK]))
    index.nprobe = min(probes, lists)

    def find(rows: np.ndarray, k: int) -> Found:
        asked = np.ascontiguousarray(queries[rows])
        _, numbers = index.search(asked, min(k + SLACK, len(documents)))
        numbers, scores = _ranked(asked, documents, numbers)
        return numbers[:, :k], scores[:, :k]

    return find


def recall(approximate: Finder, exact: Finder, rows: np.ndarray, k: int) -> float:
    """The share of the exact best k that the other finder finds too."""
    found, wanted = approximate(rows, k)[0], exact(rows, k)[0]
    return float(
        np.mean([np.isin(right[right >= 0], left).mean() for left, right in zip(found, wanted)])
    )


def words(
    queries: np.ndarray,
    documents: np.ndarray,
    texts: list[str],
    asked: Callable[[np.ndarray], list[str]],
) -> Finder:
    """BM25 (Robertson's, as bm25s has it: k1 1.5, b 0.75) over lower-cased words. `asked` gives the queries of rows."""
    try:
        import bm25s
    except ImportError:
        raise UsageError(
            "--bm25 needs the package bm25s, which is not installed",
            "pip install 'fletching-hnmine[bm25]'",
        ) from None

    split = dict(stopwords=None, show_progress=False)
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, **split), show_progress=False)

    def find(rows: np.ndarray, k: int) -> Found:
        k = min(k, len(texts))
        tokens: Any = bm25s.tokenize(asked(rows), **split, return_ids=False)
        numbers, scores = index.retrieve(tokens, k=k, show_progress=False, sorted=True)
        numbers = np.where(scores > 0, numbers, -1).astype(np.int64)
        numbers = np.take_along_axis(numbers, np.lexsort((numbers, -scores), axis=1), 1)
        return numbers, memmap_buffer.block_dot(queries[rows], documents, numbers)

    return find


def fused(first: Finder, second: Finder) -> Finder:
    """Two rankings as one, by the sum of 1 / (60 + rank)."""

    def find(rows: np.ndarray, k: int) -> Found:
        found = [first(rows, k), second(rows, k)]
        numbers, cosines = (np.concatenate(each, 1) for each in zip(*found))  # (w, 2k) each
        worth = np.concatenate(
            [
                np.broadcast_to(1 / (RANK_OFFSET + 1 + np.arange(each.shape[1])), each.shape)
                for each, _ in found
            ],
            1,
        )
        order = np.argsort(numbers, axis=1, kind="stable")
        numbers, cosines, worth = (
            np.take_along_axis(each, order, 1) for each in (numbers, cosines, worth)
        )
        same = numbers[:, 1:] == numbers[:, :-1]
        worth[:, 1:] += np.where(same, worth[:, :-1], 0)
        numbers[:, :-1][same] = -1
        worth[numbers < 0] = -1
        best = np.lexsort((numbers, -worth), axis=1)[:, :k]
        return np.take_along_axis(numbers, best, 1), np.take_along_axis(cosines, best, 1)

    return find


def finder(
    options: Options,
    queries: np.ndarray,
    documents: np.ndarray,
    device: str,
    texts: Callable[[], list[str]],
    asked: Callable[[np.ndarray], list[str]],
) -> Finder:
    """The finder that the options ask for."""
    if options.bm25 == "alone":
        return words(queries, documents, texts(), asked)
    by_vector = (
        ivf(queries, documents, options.probes)
        if options.index == "ivf"
        else dense(queries, documents, device)
    )
    return (
        fused(by_vector, words(queries, documents, texts(), asked))
        if options.bm25 == "fused"
        else by_vector
    )
