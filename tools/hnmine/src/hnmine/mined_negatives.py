"""What a run mined: one frame of negatives, the scores beside it, and the account of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from fletching.arrays import Scores
from fletching.report import Report
from hnmine.guards import GuardChain
from hnmine.queries import PAIR
from hnmine.selection import NegativeKind


@dataclass(frozen=True, kw_only=True)
class MinedNegatives:
    """The negatives of the rows of a shard, and the scores of their positives."""

    negatives: pl.DataFrame  # row, candidate, score, kind: row by row, in the order written
    positive_scores: Scores  # of the positives of all rows, end to end
    score_kind: str


@dataclass(frozen=True, kw_only=True)
class PoolSize:
    """How much there was to choose from."""

    texts: int
    rows_without_texts: int  # of a domain of which the pool has no text


class Scorer(Protocol):
    """What gives pairs of a row and a text their scores: a cross-encoder, or hybrid scores."""

    def scores(self, pairs: pl.DataFrame) -> pl.Series:
        """The score of each pair, (n,). pairs: a frame with `row` and `candidate`."""


def scored(
    negatives: pl.DataFrame, positives: pl.DataFrame, *, scorer: Scorer | None, kind: str
) -> MinedNegatives:
    """With the scores that are written: those of the scorer, cosines without one.

    positives: row, candidate, score. kind: of the scores.
    """
    if scorer is not None:
        pairs = pl.concat([negatives.select(*PAIR), positives.select(*PAIR)])
        scores = scorer.scores(pairs)
        negatives = negatives.with_columns(score=scores[: negatives.height])
        positives = positives.with_columns(score=scores[negatives.height :])
    return MinedNegatives(
        negatives=negatives,
        positive_scores=positives["score"].to_numpy(),
        score_kind=kind,
    )


def report_account(
    negatives: pl.DataFrame, guards: GuardChain, *, pool: PoolSize, report: Report
) -> None:
    """What the guards removed and which rows are short, for the summary and the user."""
    options = guards.evidence.options
    rows = len(guards.evidence.queries)
    padding = negatives.filter(pl.col("kind") == NegativeKind.PADDING)["row"]
    mined = negatives.filter(pl.col("kind") == NegativeKind.MINED)["row"]
    counts = mined.value_counts()["count"]
    short = rows - int((counts >= options.negative_count).sum())
    report.measures |= {
        "removed_by_guard": {name: n for name, n in sorted(guards.removed.items()) if n},
        "rows_short_of_negatives": short,
        "pool": pool.texts,
        "padded": len(padding),
    }
    if pool.rows_without_texts:
        report.note(
            f"{pool.rows_without_texts:,} rows are of a domain of which the pool has no text"
        )
    if short:
        padded = f", of which {padding.n_unique():,} are padded" if options.pad else ""
        report.note(
            f"{short:,} rows have fewer than {options.negative_count} negatives{padded}; "
            "widen --range, loosen a guard or add a --corpus"
        )
