"""Guards against false negatives, each a named polars expression, an entry of GUARDS.

    @guard("above --max-score", stage="range")
    def above_score(options):
        bound = options.max_score
        return None if bound is None else pl.col("score") > bound

The expression is over a frame of candidates (see `hnmine.candidates`) and says which ones are
rejected; None turns the guard off. Its name is shown in the account of the run
(`removed_by_guard`), with the number of candidates that it was the first to reject. The stage says
when it runs:

ranking   before ranks are counted: what it rejects takes no rank
range     on every candidate in the range of ranks
draw      on the few candidates that were drawn; what it rejects is drawn again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import polars as pl

from fletching.registry import Registry
from hnmine.candidates import Evidence
from hnmine.options import Options

Stage = Literal["ranking", "range", "draw"]
Rejection = Callable[[Options], pl.Expr | None]
GUARDS: Registry[tuple[Stage, Rejection]] = Registry("guard")


def guard(name: str, *, stage: Stage) -> Callable[[Rejection], Rejection]:
    """Register a guard. Guards of a stage run in the order of their registration."""

    def register(rejects: Rejection) -> Rejection:
        """Add the entry; the function stays as it is."""
        GUARDS.register(name, (stage, rejects))
        return rejects

    return register


@guard("positive or copy", stage="ranking")
def known_answer(options: Options) -> pl.Expr:
    """The query itself, its positives, texts that equal one, documents judged relevant."""
    return pl.col("is_positive")


@guard("above --max-ratio", stage="range")
def above_ratio(options: Options) -> pl.Expr | None:
    """Too near to the positive, relative to its score (NV-Retriever, arXiv 2407.15831)."""
    if not options.max_ratio:
        return None
    # Written with |p|, so that a negative p moves the bound down too.
    positive = pl.col("positive_score")
    return pl.col("score") > positive - (1 - options.max_ratio) * positive.abs()


@guard("above --score-margin", stage="range")
def above_margin(options: Options) -> pl.Expr | None:
    """Too near to the positive, by an absolute margin."""
    if options.score_margin is None:
        return None
    return pl.col("score") > pl.col("positive_score") - options.score_margin


@guard("above --max-score", stage="range")
def above_score(options: Options) -> pl.Expr | None:
    """Too near to the query."""
    return None if options.max_score is None else pl.col("score") > options.max_score


@guard("below --min-score", stage="range")
def below_score(options: Options) -> pl.Expr | None:
    """Too far from the query to be hard."""
    return None if options.min_score is None else pl.col("score") < options.min_score


@guard("near copy of a positive", stage="draw")
def near_copy(options: Options) -> pl.Expr:
    """As near to a positive of the query as --near-copy."""
    return pl.col("copy_score") >= options.near_copy


@guard("positive to --reranker", stage="draw")
def positive_to_reranker(options: Options) -> pl.Expr | None:
    """Scored by the cross-encoder like a positive."""
    if options.reranker is None:
        return None
    bound = pl.col("positive_reranker_score") - options.reranker_margin
    return pl.col("reranker_score") > bound


class GuardChain:
    """The guards that the options turn on, over the candidates of one run.

    removed: by guard, the candidates that it was the first to reject.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.removed: Counter[str] = Counter()
        self.of_stage: dict[Stage, dict[str, pl.Expr]] = {"ranking": {}, "range": {}, "draw": {}}
        for name, (stage, expression_of) in GUARDS.items():
            rejects = expression_of(evidence.options)
            if rejects is not None:
                self.of_stage[stage][name] = rejects

    def with_rejections(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The frame with `rejected_by`: the first guard of the stage `ranking`, or null."""
        names = pl.Enum(list(self.of_stage["ranking"]))
        first = pl.lit(None, names)
        for name, rejects in reversed(self.of_stage["ranking"].items()):
            candidates = self.evidence.with_columns_of(candidates, rejects)
            first = pl.when(rejects).then(pl.lit(name, names)).otherwise(first)
        return candidates.with_columns(rejected_by=first)

    def count_rejections(self, candidates: pl.DataFrame) -> None:
        """Add what `with_rejections` noted of these candidates to the account."""
        rejected = candidates.select("rejected_by").drop_nulls()
        counts = rejected.group_by("rejected_by").len()
        self.removed.update(dict(counts.iter_rows()))

    def passed(self, candidates: pl.DataFrame, stage: Stage) -> pl.DataFrame:
        """The candidates that no guard of the stage rejects; each sees what those before left."""
        for name, rejects in self.of_stage[stage].items():
            candidates = self.evidence.with_columns_of(candidates, rejects)
            is_rejected = candidates.select(rejects).to_series()
            self.removed[name] += int(is_rejected.sum())
            candidates = candidates.filter(~is_rejected)
        return candidates
