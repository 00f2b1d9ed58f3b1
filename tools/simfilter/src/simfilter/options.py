"""The options of simfilter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    MODEL,
    CorpusOptions,
    EncodingOptions,
    EngineOptions,
    ExamplesOptions,
    OutputOptions,
    RejectsOptions,
    ScoreWritingOptions,
    ShardOptions,
    StandardOptions,
    VectorsOptions,
    option,
    override,
)

CRITERIA = "criteria (they combine; without one, --rank-within 50)"
RELABEL = "false negatives"


@dataclass(frozen=True, kw_only=True)
@override(
    "corpus",
    (),
    because="nothing is searched here: the texts are compared with a positive",
    help="`texts` that join the positives of the input as the pool of --rank-within",
    group=CRITERIA,
    advanced=True,
)
class Options(
    OutputOptions,
    ExamplesOptions,
    EncodingOptions,
    VectorsOptions,
    CorpusOptions,
    RejectsOptions,
    ScoreWritingOptions,
    ShardOptions,
    EngineOptions,
    StandardOptions,
):
    """One command line of simfilter."""

    cross_encoder: str | None = option(
        None,
        "score by a cross-encoder instead of the cosine",
        metavar="CE",
        group=MODEL,
        is_model=True,
    )
    use_scores: bool = option(
        False, "use the `pos_scores` of the input; no model is needed", group=MODEL
    )
    min_sim: float | None = option(
        None, "drop a positive whose score is below X", metavar="X", group=CRITERIA
    )
    max_sim: float | None = option(
        None,
        "drop a positive whose score is above X: a near copy of the query",
        metavar="X",
        group=CRITERIA,
    )
    keep_top: float | None = option(
        None,
        "keep this share of the positives, those with the highest scores",
        metavar="Q",
        low=0,
        high=1,
        group=CRITERIA,
    )
    keep_top_by: Literal["all", "task", "domain"] = option(
        "all",
        "keep the share of all positives, or of those of each task or domain",
        group=CRITERIA,
        advanced=True,
    )
    rank_within: int | None = option(
        None,
        "keep a positive that is among the K nearest texts to its query",
        metavar="K",
        low=1,
        group=CRITERIA,
    )
    decontaminate: tuple[str, ...] = option(
        (),
        "drop rows that share a text with these examples or texts",
        metavar="FILE",
        group=CRITERIA,
        rows=False,
    )
    ngram: int = option(
        0,
        "with --decontaminate: N consecutive words in common are enough (13 is usual); "
        "0: whole texts",
        metavar="N",
        low=0,
        high=100,
        group=CRITERIA,
        advanced=True,
    )
    relabel: bool = option(
        False,
        "move negatives that score like a positive to the positives (RLHN)",
        group=RELABEL,
    )
    relabel_above: float | None = option(
        None,
        "with --relabel: move a negative that scores at least X",
        metavar="X",
        group=RELABEL,
    )
    relabel_margin: float | None = option(
        None,
        "with --relabel: move one that scores at least p - X, p the lowest score of a positive "
        "[0 without --relabel-above]",
        metavar="X",
        group=RELABEL,
    )
    relabel_drop: float = option(
        0.0,
        "with --relabel: drop a negative that is up to X below: too near to call",
        metavar="X",
        low=0,
        group=RELABEL,
    )
    score_only: bool = option(False, "drop nothing, only write the scores", group=CRITERIA)
    as_pairs: bool = option(
        False,
        "write one row for each positive: `query, document, cos_sim`",
        group=IO,
        advanced=True,
    )
