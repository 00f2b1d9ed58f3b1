"""The options of hnmine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    MODEL,
    RUN,
    EncodingOptions,
    ExamplesOptions,
    OutputOptions,
    SeedOptions,
    StandardOptions,
    option,
)

CHOICE = "which negatives"
GUARDS = "guards against false negatives (they combine)"


@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions, ExamplesOptions, EncodingOptions, SeedOptions, StandardOptions):
    model: str | None = option(
        None, "sentence-transformers model: a folder or a hub name", metavar="M", group=MODEL
    )  # type: ignore[assignment]
    vectors: tuple[str, ...] = option(
        (),
        "`vectors` of all queries and texts, in place of --model",
        metavar="FILE",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    negatives: int = option(5, "hard negatives of a row", metavar="K", low=1, group=CHOICE)
    range: str = option(
        "1-100",
        "ranks to choose from, 1 the nearest, after the query's own positives and their copies are taken out",
        metavar="LO-HI",
        group=CHOICE,
    )
    raw_range: bool = option(
        False,
        "--range as FlagEmbedding has it: LO ranks are skipped, positives count as ranks",
        group=CHOICE,
        advanced=True,
    )
    sample: Literal["random", "top", "weighted"] = option(
        "random",
        "choose in the range at random (seeded by row), the nearest first, or at random by score",
        group=CHOICE,
    )
    sample_temperature: float = option(
        0.05,
        "with --sample weighted, chances go as exp(score / T)",
        metavar="T",
        low=0.001,
        high=100,
        group=CHOICE,
        advanced=True,
    )
    corpus: tuple[str, ...] = option(
        (),
        "`texts` that join the pool of the input's positives",
        metavar="TEXTS",
        group=CHOICE,
        rows=False,
    )
    keep_neg: bool = option(
        False, "old negatives stay, in front, and join the pool", group=CHOICE, advanced=True
    )
    pad: bool = option(
        False,
        "fill rows that are short with random texts of the pool; `neg_padded` says how many",
        group=CHOICE,
        advanced=True,
    )
    bm25: Literal["alone", "fused"] | None = option(
        None,
        "rank by words instead of vectors, or by both (rank fusion); the scores stay cosines",
        group=CHOICE,
        advanced=True,
    )
    index: Literal["exact", "ivf"] = option(
        "exact",
        "ivf: FAISS's inverted lists, faster on millions of texts; its recall is measured and printed",
        group=CHOICE,
        advanced=True,
    )
    probes: int = option(
        32,
        "lists that --index ivf searches for a query",
        metavar="N",
        low=1,
        group=CHOICE,
        advanced=True,
    )
    max_ratio: float | None = option(
        0.95,
        "score at most p - (1-R)|p|, p the lowest score of a positive; 0 turns it off",
        metavar="R",
        low=0,
        high=1,
        group=GUARDS,
    )
    margin: float | None = option(
        None, "score at most p - X", metavar="X", low=0, high=2, group=GUARDS, advanced=True
    )
    max_sim: float | None = option(
        None, "score at most X", metavar="X", low=-1, high=1, group=GUARDS, advanced=True
    )
    min_sim: float | None = option(
        None,
        "score at least X: nearer than random",
        metavar="X",
        low=-1,
        high=1,
        group=GUARDS,
        advanced=True,
    )
    near_copy: float = option(
        0.98,
        "cosine to a positive from which a text counts as its copy",
        metavar="X",
        low=0,
        high=1.01,
        group=GUARDS,
        advanced=True,
    )
    exclude_qrels: tuple[str, ...] = option(
        (),
        "BEIR qrels (tsv): documents judged relevant to a row's id are no negatives",
        metavar="FILE",
        group=GUARDS,
        advanced=True,
    )
    reranker: str | None = option(
        None,
        "cross-encoder that rejects what it scores above a positive; its scores are written",
        metavar="CE",
        group=GUARDS,
    )
    reranker_margin: float = option(
        0.0,
        "reject what scores above p - X, p the lowest positive's reranker score",
        metavar="X",
        low=-100,
        high=100,
        group=GUARDS,
        advanced=True,
    )
    score_all: bool = option(
        False,
        "mine nothing: write --reranker's score of every pos and neg there is",
        group=GUARDS,
        advanced=True,
    )
    replace_scores: bool = option(
        False, "overwrite scores of a reranker, label or judge", group=IO, advanced=True
    )
    shard: str | None = option(
        None,
        "mine part I of N (0/4 ... 3/4) of the rows, from the whole pool; the parts in order are the whole",
        metavar="I/N",
        group=RUN,
        advanced=True,
    )
