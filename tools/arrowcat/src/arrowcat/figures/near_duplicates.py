"""Texts that say nearly the same: many runs of three words in common, and not equal.

Candidates are texts that share one of their smallest keys of word runs, a bottom-k sketch (Broder
1997: On the resemblance and containment of documents); their resemblance is then exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from fletching.table.key_set import GrowingKeySet
from fletching.table.ragged_array import Integers
from fletching.text_keys import ABSENT, hash_texts, hash_word_runs

MOST_TEXTS = 20_000  # that are compared; the rest is not
RUN_WORDS = 3
SKETCH_KEYS = 12  # of a text: two texts of resemblance 0.7 miss each other once in a million
COMMONEST_KEY = 50  # texts that share a key; boilerplate would pair everything
LEAST_RESEMBLANCE = 0.7
# Scripts without blanks: each sign counts as a word.
LETTERS_AS_WORDS = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])"


class NearDuplicate(NamedTuple):
    """Two texts, with the numbers of their rows, and the share of word runs that both have."""

    resemblance: float
    rows: tuple[int, int]
    texts: tuple[str, str]


class NearDuplicates:
    """The first distinct texts of a column, and which of them resemble each other."""

    def __init__(self) -> None:
        self.seen = GrowingKeySet()
        self.rows: list[int] = []
        self.texts: list[str] = []
        self.left_out = 0  # distinct texts after the first MOST_TEXTS

    def add(self, rows: Integers, texts: pa.StringArray) -> None:
        """Look at texts (n,), each with the number of its row."""
        keys = hash_texts(texts)
        is_new = self.seen.add_new(keys) & (keys != ABSENT)
        positions = np.flatnonzero(is_new)
        capacity = MOST_TEXTS - len(self.texts)
        taken = positions[:capacity]
        self.left_out += len(positions) - len(taken)
        self.rows += rows[taken].tolist()
        self.texts += texts.take(pa.array(taken)).to_pylist()

    def pairs(self) -> list[NearDuplicate]:
        """The most alike first."""
        if not self.texts:
            return []
        runs = _word_runs(self.texts)
        alike = _resemblances(runs, _candidates(runs))
        pairs = []
        for first, second, resemblance in alike.iter_rows():
            rows = (self.rows[first], self.rows[second])
            texts = (self.texts[first], self.texts[second])
            pairs.append(NearDuplicate(resemblance, rows, texts))
        return pairs


def _word_runs(texts: list[str]) -> pl.DataFrame:
    """The distinct runs of each text: `text` (its position), `key`."""
    spaced = pl.Series(texts).str.replace_all(LETTERS_AS_WORDS, " $1 ")
    words = spaced.to_arrow().cast(pa.string())
    owners, keys = hash_word_runs(words, RUN_WORDS)
    runs = pl.DataFrame({"text": owners, "key": keys})
    return runs.unique().sort("text", "key")


def _candidates(runs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of texts that share a key of their sketches: `text`, `other`, rising."""
    sketches = runs.group_by("text", maintain_order=True).head(SKETCH_KEYS)
    holders = pl.len().over("key")
    shared = sketches.filter(holders.is_between(2, COMMONEST_KEY))
    others = shared.rename({"text": "other"})
    pairs = shared.join(others, on="key")
    rising = pairs.filter(pl.col("text") < pl.col("other"))
    distinct = rising.select("text", "other").unique()
    return distinct.sort("text", "other")


def _resemblances(runs: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs that are alike: `text`, `other`, `resemblance`, the most alike first."""
    number = pl.len().cast(pl.Int64)
    sizes = runs.group_by("text").agg(size=number)
    other_sizes = sizes.rename({"text": "other", "size": "other_size"})
    others = runs.rename({"text": "other"})
    shared = (
        pairs.join(runs, on="text")
        .join(others, on=["other", "key"])
        .group_by("text", "other")
        .agg(shared=number)
        .join(sizes, on="text")
        .join(other_sizes, on="other")
    )
    union = pl.col("size") + pl.col("other_size") - pl.col("shared")
    resemblances = shared.select(
        "text",
        "other",
        resemblance=pl.col("shared") / union,
    )
    alike = resemblances.filter(pl.col("resemblance") >= LEAST_RESEMBLANCE)
    order = ["resemblance", "text", "other"]
    return alike.sort(order, descending=[True, False, False])
