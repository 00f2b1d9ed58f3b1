"""BM25 of the texts of a pool, by bm25s (Robertson's: k1 1.5, b 0.75), over lower-cased words."""

from __future__ import annotations

from typing import Any

import numpy as np

from fletching.arrays import Numbers, Scores
from fletching.errors import UsageError

SETTINGS: dict[str, Any] = {"stopwords": None, "show_progress": False}


class WordIndex:
    """BM25 over the words of n texts; a word is two letters or digits or more.

    Raises UsageError, which names `flag`, where bm25s is not installed.
    """

    def __init__(self, texts: list[str], flag: str) -> None:
        try:
            import bm25s
        except ImportError:
            raise UsageError(
                f"{flag} needs the package bm25s, which is not installed",
                "pip install 'fletching-hnmine[bm25]'",
            ) from None

        self._bm25s = bm25s
        self._size = len(texts)
        self._index = bm25s.BM25()
        words: Any = bm25s.tokenize(texts, **SETTINGS)
        self._has_words = bool(words.vocab)
        if self._has_words:  # bm25s fails on texts without any
            self._index.index(words, show_progress=False)

    def scores(self, query: str) -> Scores:
        """The BM25 of each text to the query, (n,); 0 where they share no word."""
        [words] = self._words_of([query])
        if not words or not self._has_words:  # bm25s takes neither
            return np.zeros(self._size, np.float32)
        scores: Scores = self._index.get_scores(words).astype(np.float32)
        return scores

    def best(self, queries: list[str], k: int) -> Numbers:
        """Numbers (q, k) of the best k texts of each query, k <= n; -1 where they share no word."""
        if not self._has_words:
            return np.full((len(queries), k), -1)
        words: Any = self._words_of(queries)
        numbers, scores = self._index.retrieve(words, k=k, show_progress=False, sorted=True)
        numbers = np.where(scores > 0, numbers, -1).astype(np.int64)
        order = np.lexsort((numbers, -scores), axis=1)
        best: Numbers = np.take_along_axis(numbers, order, 1)
        return best

    def _words_of(self, queries: list[str]) -> list[list[str]]:
        words: list[list[str]] = self._bm25s.tokenize(queries, **SETTINGS, return_ids=False)
        return words
