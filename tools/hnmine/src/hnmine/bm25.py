"""BM25 of the texts of a pool, by bm25s (Robertson's: k1 1.5, b 0.75), over lower-cased words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fletching.arrays import Scores
from fletching.errors import UsageError

if TYPE_CHECKING:
    from bm25s import BM25

SETTINGS: dict[str, Any] = {"stopwords": None, "show_progress": False}


def bm25_index(texts: list[str], flag: str) -> BM25:
    """The index of texts. Raises UsageError, which names `flag`, where bm25s is not installed."""
    try:
        import bm25s
    except ImportError:
        raise UsageError(
            f"{flag} needs the package bm25s, which is not installed",
            "pip install 'fletching-hnmine[bm25]'",
        ) from None

    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, **SETTINGS), show_progress=False)
    return index


def words_of(queries: list[str]) -> list[list[str]]:
    """The words of each query, as those of the index are cut."""
    import bm25s

    words: list[list[str]] = bm25s.tokenize(queries, **SETTINGS, return_ids=False)
    return words


def scores_of_all(index: BM25, words: list[str]) -> Scores:
    """The BM25 of each text to the words of a query, (n,); 0 where they share none."""
    if not words:  # which bm25s does not take
        return np.zeros(index.scores["num_docs"], np.float32)
    scores: Scores = index.get_scores(words).astype(np.float32)
    return scores
