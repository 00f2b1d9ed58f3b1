"""What repeats: equal texts, nearly equal texts, and paragraphs that many documents share."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from fletching.table import KeySet
from fletching.text import normalise

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

PERMUTATIONS = 128
RUN = 3  # words
FEWEST_DOCUMENTS = 5  # that share a paragraph, before it is boilerplate


def text_key(text: str) -> int:
    """xxh3-64 of the normalised text."""
    return xxhash.xxh3_64_intdigest(normalise(text).encode())


class BoilerplateCounter:
    """Counts in how many documents each paragraph occurs: 8 bytes for each."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.keys = array("Q")
        self.documents = 0

    def add(self, texts: Sequence[str]) -> None:
        """The paragraphs of one document."""
        self.documents += 1
        if self.share < 1:
            self.keys.extend(sorted({text_key(text) for text in texts}))

    def common(self) -> KeySet:
        """The keys of boilerplate: paragraphs of more than the share of the documents."""
        keys, counts = np.unique(np.array(self.keys, np.uint64), return_counts=True)
        bound = max(FEWEST_DOCUMENTS, math.floor(self.share * self.documents) + 1)
        return KeySet(keys[counts >= bound])


class RepeatFilter:
    """Which texts are equal, or nearly equal, to one before. About 2.5 KB a text.

    similarity: Jaccard of the runs of three words, estimated by MinHash (Broder 1997) with 128
    permutations; candidates by LSH, as datasketch does. 1: equal texts alone.
    """

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity
        self.known: set[int] = set()
        self.signatures: list[MinHash] = []
        self.index: MinHashLSH | None = None
        if similarity < 1:
            from datasketch import MinHashLSH

            # Bands that miss few: those that are below the threshold are compared and left out.
            self.index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS, weights=(0.2, 0.8))

    def reason(self, text: str) -> str | None:
        """`duplicate` or `near duplicate`; None for a new text, which is then known."""
        key = text_key(text)
        if key in self.known:
            return "duplicate"
        self.known.add(key)
        if self.index is not None and self._is_near(text, self.index):
            return "near duplicate"
        return None

    def _is_near(self, text: str, index: MinHashLSH) -> bool:
        from datasketch import LeanMinHash, MinHash

        words = normalise(text).split()
        runs = {" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}
        if not runs:  # of one or two words: equal or not
            return False
        full = MinHash(num_perm=PERMUTATIONS, hashfunc=_hash32)
        full.update_batch(run.encode() for run in sorted(runs))
        signature = LeanMinHash(full)
        for number in sorted(index.query(signature)):
            if self.signatures[number].jaccard(signature) >= self.similarity:
                return True
        index.insert(len(self.signatures), signature)
        self.signatures.append(signature)
        return False


def _hash32(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data) & 0xFFFF_FFFF
