"""The exact nearest texts of one domain, for a block of queries.

A finder is a function (rows, k) -> Ranking of the queries in these rows. Cosines are computed
pair by pair (`fletching.encode.memmap_buffer`), so they depend on no block; ties go to the
smaller number, that is by content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fletching.arrays import Numbers, Scores, Vectors
from fletching.encode import memmap_buffer
from hnmine import bf16_topk, faiss_library

QUERY_BLOCK = (
    16_384  # searched at a time, fewer with a large k: small blocks make FAISS 16-30 times slower
)
BLOCK_RESULTS = 1 << 22  # numbers found for a block
DOCUMENT_BLOCK = 131_072  # documents compared at a time; the others stay on disk
SLACK = 16  # searched beyond k, so that rounding in a block cannot lose a text
NOISE = 1e-5  # a matrix product in float32 differs from `memmap_buffer.pairwise_dot` by less


class Ranking(NamedTuple):
    """The best k texts of each of w queries."""

    numbers: Numbers  # (w, k), best first; -1 where there is nothing
    scores: Scores  # (w, k), cosines


Finder = Callable[[Numbers, int], Ranking]


class Nearest(NamedTuple):
    """Texts in any order that are nearest by an inexact score."""

    bound: Scores  # (w,): above the exact score of every text that is missing
    numbers: Numbers  # (w, k)


def block_size(k: int) -> int:
    """How many queries are searched at a time for k texts each."""
    return min(max(BLOCK_RESULTS // k, 1024), QUERY_BLOCK)


def exact_finder(queries: Vectors, documents: Vectors, device: str) -> Finder:
    """All inner products: by `bf16_topk` on a CPU with tiles, else by FAISS or torch.

    FAISS, an extra, multiplies on a CPU where it is installed; a GPU is torch's.
    """
    has_tiles = device == "cpu" and bf16_topk.available()

    def nearest(block: Vectors, width: int) -> Nearest:
        """The best `width` texts by inexact scores."""
        if has_tiles:
            return Nearest(*bf16_topk.top(block, documents, width))
        return _nearest_by_blocks(block, documents, width, device=device)

    def find(rows: Numbers, k: int) -> Ranking:
        """The best k texts of the queries in these rows."""
        k = min(k, len(documents))
        numbers = np.empty((len(rows), k), np.int64)
        scores = np.empty((len(rows), k), np.float32)
        pending = np.arange(len(rows))
        first_width = k * 3 // 2 if has_tiles else k
        width = min(first_width + SLACK, len(documents))
        while len(pending):
            block = np.ascontiguousarray(queries[rows[pending]])
            candidates = nearest(block, width)
            ranking = rank(block, documents, candidates.numbers)
            numbers[pending] = ranking.numbers[:, :k]
            scores[pending] = ranking.scores[:, :k]
            # A text that is missing scores at most `bound`: the k-th must lie above it.
            is_certain = ranking.scores[:, k - 1] > candidates.bound
            if width == len(documents):
                break
            pending = pending[~is_certain]
            width = min(width * 2, len(documents))
        return Ranking(numbers, scores)

    return find


def rank(block: Vectors, documents: Vectors, numbers: Numbers) -> Ranking:
    """`numbers` (w, k) by falling exact score to the queries of `block` (w, D)."""
    scores = memmap_buffer.block_dot(block, documents, numbers)
    order = np.lexsort((numbers, -scores), axis=1)
    return take(Ranking(numbers, scores), order)


def take(ranking: Ranking, columns: Numbers) -> Ranking:
    """The columns (w, j) of each row."""
    return Ranking(
        np.take_along_axis(ranking.numbers, columns, 1),
        np.take_along_axis(ranking.scores, columns, 1),
    )


def _nearest_by_blocks(queries: Vectors, documents: Vectors, k: int, *, device: str) -> Nearest:
    """The best k by float32 products, block by block of the documents."""
    search = _faiss if device == "cpu" and faiss_library.is_installed() else _torch
    best = Ranking(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
    for start in range(0, len(documents), DOCUMENT_BLOCK):
        block = np.asarray(documents[start : start + DOCUMENT_BLOCK])
        ranking = search(queries, block, k=min(k, len(block)), device=device)
        best = Ranking(
            np.concatenate([best.numbers, ranking.numbers + start], 1),
            np.concatenate([best.scores, ranking.scores], 1),
        )
        if best.scores.shape[1] > k:
            columns = np.argpartition(-best.scores, k - 1, axis=1)
            best = take(best, columns[:, :k])
        memmap_buffer.release_pages(documents)
    bound = best.scores.min(1) + np.float32(NOISE)
    return Nearest(bound, best.numbers)


def _faiss(queries: Vectors, documents: Vectors, *, k: int, device: str) -> Ranking:
    faiss = faiss_library.load_faiss("the exact search")
    scores, numbers = faiss.knn(queries, documents, k, metric=faiss.METRIC_INNER_PRODUCT)
    return Ranking(numbers, scores)


def _torch(queries: Vectors, documents: Vectors, *, k: int, device: str) -> Ranking:
    import torch

    on_device = torch.from_numpy(documents).to(device)  # (n, D)
    parts = []
    for start in range(0, len(queries), 512):
        block = torch.from_numpy(queries[start : start + 512]).to(device)
        scores = block @ on_device.T
        parts.append(torch.topk(scores, k, sorted=False))
    numbers = torch.cat([part.indices for part in parts])
    values = torch.cat([part.values for part in parts])
    return Ranking(numbers.cpu().numpy(), values.cpu().numpy())
