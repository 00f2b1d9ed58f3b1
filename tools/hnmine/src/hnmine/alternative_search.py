"""Finders that one opts in to: FAISS's inverted lists, BM25, and the fusion of two rankings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fletching.arrays import Numbers, Vectors
from fletching.encode import memmap_buffer
from hnmine.bm25 import WordIndex
from hnmine.faiss_library import load_faiss
from hnmine.queries import QueryTexts
from hnmine.search import DOCUMENT_BLOCK, SLACK, Finder, Ranking, rank, take

if TYPE_CHECKING:
    from faiss import IndexIVFFlat

RANK_OFFSET = 60  # of reciprocal rank fusion (Cormack et al., SIGIR 2009)
TEXTS_PER_LIST = 39  # FAISS warns below so many


def ivf_finder(queries: Vectors, documents: Vectors, probes: int) -> Finder:
    """FAISS's inverted lists, 4√n of them, of which `probes` are searched: fast and not exact."""
    index = _ivf_index(documents)
    index.nprobe = min(probes, index.nlist)

    def find(rows: Numbers, k: int) -> Ranking:
        """The best k texts of the queries in these rows."""
        block = np.ascontiguousarray(queries[rows])
        _, numbers = index.search(block, min(k + SLACK, len(documents)))
        ranking = rank(block, documents, numbers)
        return Ranking(ranking.numbers[:, :k], ranking.scores[:, :k])

    return find


def _ivf_index(documents: Vectors) -> IndexIVFFlat:
    faiss = load_faiss("--index ivf")
    size, dimension = documents.shape
    lists = max(min(int(4 * size**0.5), size // TEXTS_PER_LIST), 1)
    quantizer = faiss.IndexFlatIP(dimension)
    index: IndexIVFFlat = faiss.IndexIVFFlat(
        quantizer, dimension, lists, faiss.METRIC_INNER_PRODUCT
    )
    step = max(size // max(lists * 64, 1), 1)
    index.train(np.ascontiguousarray(documents[::step]))
    for start in range(0, size, DOCUMENT_BLOCK):
        index.add(np.ascontiguousarray(documents[start : start + DOCUMENT_BLOCK]))
    return index


def recall(approximate: Finder, exact: Finder, rows: Numbers, *, k: int) -> float:
    """The mean share of the exact best k that the approximate finder returns too."""
    approximate_numbers = approximate(rows, k).numbers
    exact_numbers = exact(rows, k).numbers
    shares = [
        np.isin(expected[expected >= 0], returned).mean()
        for returned, expected in zip(approximate_numbers, exact_numbers)
    ]
    return float(np.mean(shares))


def bm25_finder(
    queries: Vectors, documents: Vectors, *, texts: list[str], query_texts: QueryTexts
) -> Finder:
    """BM25: the ranking is by words, the scores are cosines.

    Raises UsageError where bm25s is not installed.
    """
    index = WordIndex(texts, "--bm25")

    def find(rows: Numbers, k: int) -> Ranking:
        """The best k texts of the queries in these rows."""
        numbers = index.best(query_texts(rows), min(k, len(texts)))
        cosines = memmap_buffer.block_dot(queries[rows], documents, numbers)
        return Ranking(numbers, cosines)

    return find


def fused_finder(first: Finder, second: Finder) -> Finder:
    """Two rankings as one, by the sum of 1 / (60 + rank)."""

    def find(rows: Numbers, k: int) -> Ranking:
        """The best k texts of the queries in these rows."""
        rankings = [first(rows, k), second(rows, k)]
        # Side by side, (w, 2k), by number: a text of both rankings is in adjacent columns.
        both = Ranking(
            np.concatenate([ranking.numbers for ranking in rankings], 1),
            np.concatenate([ranking.scores for ranking in rankings], 1),
        )
        weights = np.concatenate([_rank_weights(ranking) for ranking in rankings], 1)
        order = np.argsort(both.numbers, axis=1, kind="stable")
        both = take(both, order)
        weights = np.take_along_axis(weights, order, 1)
        is_same = both.numbers[:, 1:] == both.numbers[:, :-1]
        weights[:, 1:] += np.where(is_same, weights[:, :-1], 0)
        both.numbers[:, :-1][is_same] = -1
        weights[both.numbers < 0] = -1
        best = np.lexsort((both.numbers, -weights), axis=1)[:, :k]
        return take(both, best)

    return find


def _rank_weights(ranking: Ranking) -> npt.NDArray[np.float64]:
    """1 / (60 + rank) of each column, (w, k)."""
    ranks = 1 + np.arange(ranking.numbers.shape[1])
    return np.broadcast_to(1 / (RANK_OFFSET + ranks), ranking.numbers.shape)
