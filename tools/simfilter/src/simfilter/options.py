"""The options of simfilter."""

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
    StandardOptions,
    option,
)

CRITERIA = "criteria (they combine; without one, --rank-within 50)"


@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions, ExamplesOptions, EncodingOptions, StandardOptions):
    model: str | None = option(
        None, "sentence-transformers model: a folder or a hub name", metavar="M", group=MODEL
    )  # type: ignore[assignment]
    reranker: str | None = option(
        None, "judge by a cross-encoder's score instead of the cosine", metavar="CE", group=MODEL
    )
    vectors: tuple[str, ...] = option(
        (),
        "`vectors` of all queries and texts, in place of --model",
        metavar="FILE",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    use_scores: bool = option(
        False, "judge by the `pos_scores` that the rows have; no model is needed", group=MODEL
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
        "keep this share of the positives, the best ones",
        metavar="Q",
        low=0,
        high=1,
        group=CRITERIA,
    )
    keep_top_by: Literal["all", "task", "domain"] = option(
        "all",
        "the share is kept of all positives, or of each task's or domain's",
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
    corpus: tuple[str, ...] = option(
        (),
        "`texts` that join the input's positives as the pool of --rank-within",
        metavar="TEXTS",
        group=CRITERIA,
        advanced=True,
        rows=False,
    )
    decontaminate: tuple[str, ...] = option(
        (),
        "drop rows that have a text of these examples or texts",
        metavar="FILE",
        group=CRITERIA,
        rows=False,
    )
    ngram: int = option(
        0,
        "with --decontaminate: N words in a row in common are enough (13 is usual); 0: whole texts",
        metavar="N",
        low=0,
        high=100,
        group=CRITERIA,
        advanced=True,
    )
    score_only: bool = option(False, "judge nothing, only write the scores", group=CRITERIA)
    rejects: str | None = option(
        None,
        "write the dropped rows here, with reason and scores",
        metavar="FILE",
        group=IO,
        rows=False,
    )
    as_pairs: bool = option(
        False,
        "write one row for each positive: `query, document, cos_sim`",
        group=IO,
        advanced=True,
    )
    replace_scores: bool = option(
        False, "overwrite scores of a reranker, label or judge", group=IO, advanced=True
    )
    shard: str | None = option(
        None,
        "do part I of N (0/4 ... 3/4) of the rows; the parts in order are the whole",
        metavar="I/N",
        group=RUN,
        advanced=True,
    )
