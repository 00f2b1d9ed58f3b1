"""What a loss needs of the data: declared beside each loss, checked on every row and on all
of them.

Standard library only: the command line reads it before torch is imported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Row = Mapping[str, Any]  # a row of `examples`
Signal = Literal["pairs", "labels", "teacher", "texts"]  # what the rows offer a loss to learn from
TEACHERS = ("reranker", "judge")


@dataclass(kw_only=True)
class DatasetStats:
    """How many rows carry what."""

    rows: int = 0
    with_negatives: int = 0
    score_kinds: Counter[str] = field(default_factory=Counter)  # rows by kind of score
    lowest_label: float = math.inf  # of positives
    highest_label: float = -math.inf

    def count(self, row: Row) -> None:
        """Add one row. A teacher's single score is a kind of its own: it is no distribution."""
        self.rows += 1
        if row["neg"]:
            self.with_negatives += 1
        if row["pos_score_kind"] == "label" and row["pos_scores"]:
            self.lowest_label = min(self.lowest_label, *row["pos_scores"])
            self.highest_label = max(self.highest_label, *row["pos_scores"])
        scores = scored_documents(row)
        if not scores:
            return
        kind = row["pos_score_kind"] or row["neg_score_kind"] or "unnamed"
        if kind in TEACHERS:
            kind = "teacher" if len(scores) > 1 else "single"
        self.score_kinds[kind] += 1

    def add(self, other: DatasetStats) -> None:
        """Add the rows that another one has counted."""
        self.rows += other.rows
        self.with_negatives += other.with_negatives
        self.score_kinds += other.score_kinds
        self.lowest_label = min(self.lowest_label, other.lowest_label)
        self.highest_label = max(self.highest_label, other.highest_label)

    def signal(self) -> tuple[Signal, str]:
        """(what every row offers, in words). A cosine is no signal, nor is a score without a
        kind.
        """
        if self.rows and self.score_kinds["label"] == self.rows:
            return "labels", "every row carries labels"
        if self.rows and self.score_kinds["teacher"] == self.rows:
            return "teacher", "every row carries scores of a reranker or judge"
        return "pairs", f"{self.with_negatives:,} of {self.rows:,} rows carry hard negatives"

    @property
    def rows_with_scores(self) -> int:
        """Rows with a score of any kind."""
        return self.score_kinds.total()

    @property
    def rows_with_useful_scores(self) -> int:
        """Rows with scores that a loss could learn from."""
        return self.rows_with_scores - self.score_kinds["cosine"]


class Need:
    """What one loss needs beyond a query and a positive.

    reads_texts: `texts` instead of examples, each encoded twice. reads_scores: the scored
    documents of each row are part of the batch. reads_hard_negatives: without them the
    gradient is zero.
    """

    reads_texts: ClassVar[bool] = False
    reads_scores: ClassVar[bool] = False
    reads_hard_negatives: ClassVar[bool] = False
    fix: ClassVar[str] = "choose another --loss"

    def missing(self, row: Row) -> str:
        """What this row lacks, as a noun; "" where it lacks nothing. Such a row is dropped."""
        return ""

    def contradiction(self, row: Row) -> str:
        """Why this row would teach something wrong; "" where it does not. Such a row is refused."""
        return ""

    def unmet(self, stats: DatasetStats) -> str:
        """What no row has, as a noun; "" where some row has it. Training would learn nothing."""
        return ""


class PositivePairs(Need):
    """A query and a positive."""


POSITIVE_PAIRS = PositivePairs()


class Texts(Need):
    """A text; its two views differ by their dropout masks."""

    reads_texts = True


class HardNegatives(Need):
    """Hard negatives in some of the rows."""

    reads_hard_negatives = True
    fix = "mine them with hnmine, or choose another --loss"

    def unmet(self, stats: DatasetStats) -> str:
        """Hard negatives, where no row has any."""
        return "" if stats.with_negatives else "hard negatives"


@dataclass(frozen=True)
class ScoredLists(Need):
    """So many scored documents in every row; with optional=True, in at least one."""

    documents: int
    optional: bool = False

    reads_scores = True
    fix = "score the rows with simfilter or hnmine, or choose another --loss"

    def contradiction(self, row: Row) -> str:
        """Documents of one row are compared by their scores, which must be of one kind."""
        return contradicting_kinds(row) if self.documents > 1 else ""

    def missing(self, row: Row) -> str:
        """The scores, where the row has fewer."""
        if self.optional or len(scored_documents(row)) >= self.documents:
            return ""
        return "scores" if self.documents == 1 else f"{_number(self.documents)} scored documents"

    def unmet(self, stats: DatasetStats) -> str:
        """Scores, where no row has any."""
        return "" if stats.rows_with_scores else "scores"


class ScoredContrast(Need):
    """A scored positive and a scored hard negative in every row."""

    reads_scores = True
    reads_hard_negatives = True
    fix = "score the rows with simfilter or hnmine, or choose another --loss"

    def contradiction(self, row: Row) -> str:
        """The scores of a positive and a negative are compared, and must be of one kind."""
        return contradicting_kinds(row)

    def missing(self, row: Row) -> str:
        """The pair, where the row lacks one of the two."""
        scored = set(scored_documents(row))
        has_both = scored & set(row["pos"]) and scored & set(row["neg"] or [])
        return "" if has_both else "a scored positive and hard negative"


@dataclass(frozen=True, kw_only=True)
class LossRequirements:
    """What a row must have to be trained.

    need: of the loss named `loss`. min_pos_score: None where the loss does not read
    --min-pos-score.
    """

    need: Need = POSITIVE_PAIRS
    loss: str = ""
    min_pos_score: float | None = None

    def missing(self, row: Row) -> str:
        """Why this row is dropped; "" where it is kept."""
        if not row["query"].strip():
            return "with a blank text" if self.need.reads_texts else "with a blank query"
        if self.need.reads_texts:
            return ""
        if not any(text.strip() for text in row["pos"]):
            return "without a positive"
        if self._scores_below_minimum(row):
            return "without a positive of --min-pos-score"
        lacks = self.need.missing(row)
        return f"without {lacks} for --loss {self.loss}" if lacks else ""

    def contradiction(self, row: Row) -> str:
        """Why this row is refused; "" where it is not."""
        return self.need.contradiction(row)

    def _scores_below_minimum(self, row: Row) -> bool:
        if self.min_pos_score is None or row["pos_score_kind"] == "cosine":
            return False
        scores = row["pos_scores"]
        return bool(scores) and max(scores) < self.min_pos_score


def scored_documents(row: Row) -> dict[str, float]:
    """Score by document text. Only the positives' where the negatives' scores are of another
    kind; an unnamed kind is one of its own.
    """
    scores: dict[str, float] = {}
    for role in ("pos",) if contradicting_kinds(row) else ("pos", "neg"):
        for text, score in zip(row[role] or [], row[f"{role}_scores"] or []):
            if text.strip():
                scores.setdefault(text, score)
    return scores


def contradicting_kinds(row: Row) -> str:
    """How the kinds of the scores of positives and negatives differ, in words; "" where they agree.

    Scores without a kind on both sides are one teacher's, as foreign files have them.
    """
    if not (row["pos_scores"] and row["neg_scores"]):
        return ""
    kinds = [row[name] or None for name in ("pos_score_kind", "neg_score_kind")]
    if kinds[0] == kinds[1]:
        return ""
    positive, negative = (f"of kind {kind}" if kind else "of no named kind" for kind in kinds)
    return f"`pos_scores` are {positive}, `neg_scores` are {negative}"


def _number(count: int) -> str:
    return {2: "two", 3: "three"}.get(count, str(count))
