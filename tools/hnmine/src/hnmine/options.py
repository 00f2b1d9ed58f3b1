"""The options of hnmine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    RUN,
    CorpusOptions,
    EncodingOptions,
    EngineOptions,
    ExamplesOptions,
    NegativesOptions,
    OutputOptions,
    ScoreWritingOptions,
    SeedOptions,
    ShardOptions,
    StandardOptions,
    VectorsOptions,
    option,
    override,
)

SELECTION = "which negatives"
GUARDS = "guards against false negatives (they combine)"


@dataclass(frozen=True, kw_only=True)
@override(
    "negatives",
    5,
    because="at least one: a row without negatives needs no mining",
    low=1,
    group=SELECTION,
)
class Options(
    OutputOptions,
    ExamplesOptions,
    EncodingOptions,
    VectorsOptions,
    NegativesOptions,
    CorpusOptions,
    ScoreWritingOptions,
    ShardOptions,
    EngineOptions,
    SeedOptions,
    StandardOptions,
):
    """One command line of hnmine."""

    range: str = option(
        "1-100",
        "ranks to choose from, 1 the nearest; positives of the query and their copies have no rank",
        metavar="LO-HI",
        group=SELECTION,
    )
    raw_range: bool = option(
        False,
        "--range as in FlagEmbedding: LO ranks are skipped, and positives take ranks",
        group=SELECTION,
        advanced=True,
    )
    sample: Literal["random", "top", "weighted"] = option(
        "random",
        "choose in the range at random (seeded by row), nearest first, or at random by score",
        group=SELECTION,
    )
    sample_temperature: float = option(
        0.05,
        "with --sample weighted, the probability is proportional to exp(score / T)",
        metavar="T",
        low=0.001,
        high=100,
        group=SELECTION,
        advanced=True,
    )
    keep_neg: bool = option(
        False,
        "keep the negatives of the input in front of the mined ones, and add them to the pool",
        group=SELECTION,
        advanced=True,
    )
    pad: bool = option(
        False,
        "fill rows that are short with random texts of the pool; `neg_padded` counts them",
        group=SELECTION,
        advanced=True,
    )
    pool_only: bool = option(
        False,
        "mine from --corpus alone, not from the positives of the input",
        group=SELECTION,
        advanced=True,
    )
    bm25: Literal["alone", "fused"] | None = option(
        None,
        "rank by words instead of vectors, or by both (rank fusion); the scores stay cosines",
        group=SELECTION,
        advanced=True,
    )
    scores: Literal["cosine", "hybrid"] = option(
        "cosine",
        "scores to write; hybrid: cosine plus BM25 in the cosine's unit, of kind reranker: a "
        "teacher for contrast-train --loss kl",
        group=SELECTION,
        advanced=True,
    )
    bm25_weight: float = option(
        0.5,
        "weight of BM25 in --scores hybrid, beside 1 for the cosine",
        metavar="X",
        low=0,
        high=100,
        group=SELECTION,
        advanced=True,
    )
    index: Literal["exact", "ivf"] = option(
        "exact",
        "ivf: FAISS's inverted lists (extra [cpu], or [gpu] with CUDA), faster on millions of "
        "texts; their recall is printed",
        group=SELECTION,
        advanced=True,
    )
    probes: int = option(
        32,
        "inverted lists that --index ivf searches for a query",
        metavar="N",
        low=1,
        group=SELECTION,
        advanced=True,
    )
    pool_shard: str | None = option(
        None,
        "search part I of N of the pool (0/4 … 3/4) and write `candidates` for --merge",
        metavar="I/N",
        group=RUN,
        advanced=True,
        rows=False,
    )
    merge: tuple[str, ...] = option(
        (),
        "mine from the `candidates` of all parts of the pool; needs no model",
        metavar="FILE",
        group=RUN,
        advanced=True,
        rows=False,
    )
    max_ratio: float | None = option(
        0.95,
        "score at most p - (1-R)|p|, p the lowest score of a positive; 0: off",
        metavar="R",
        low=0,
        high=1,
        group=GUARDS,
    )
    score_margin: float | None = option(
        None, "score at most p - X", metavar="X", low=0, high=2, group=GUARDS, advanced=True
    )
    max_score: float | None = option(
        None, "score at most X", metavar="X", low=-1, high=1, group=GUARDS, advanced=True
    )
    min_score: float | None = option(
        None,
        "score at least X: harder than random texts",
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
        is_model=True,
    )
    reranker_margin: float = option(
        0.0,
        "reject what scores above p - X, p the lowest reranker score of a positive",
        metavar="X",
        low=-100,
        high=100,
        group=GUARDS,
        advanced=True,
    )
    score_all: bool = option(
        False,
        "mine nothing: write the --reranker's score of every pos and neg of the input",
        group=GUARDS,
        advanced=True,
    )

    @property
    def negative_count(self) -> int:
        """--negatives as a number, which it always is in this tool."""
        return self.negatives or 0

    @property
    def score_kind(self) -> str:
        """The kind of the scores that are written."""
        return "reranker" if self.reranker or self.scores == "hybrid" else "cosine"
