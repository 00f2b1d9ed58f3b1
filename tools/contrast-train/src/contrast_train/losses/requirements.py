"""What rows carry (hard negatives, teacher scores, labels), which loss that suggests, and what a loss needs of a row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

TEACHERS = ("reranker", "judge")


@dataclass
class Census:
    """Counts of rows by what they carry."""

    rows: int = 0
    with_negatives: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # score kinds: how many rows have them

    def count(self, row: dict[str, Any]) -> None:
        self.rows += 1
        self.with_negatives += bool(row["neg"])
        scores = scored(row)
        if scores:
            kind = row["pos_score_kind"] or row["neg_score_kind"] or "unnamed"
            self.kinds[
                kind if kind not in TEACHERS else "teacher" if len(scores) > 1 else "single"
            ] += 1

    def loss(self) -> tuple[str, str]:
        """(the loss that fits, why). A cosine never selects one, nor do scores of an unnamed kind."""
        if self.rows and self.kinds["label"] == self.rows:
            return "cosent", "every row carries labels"
        if self.rows and self.kinds["teacher"] == self.rows:
            return "kl", "every row carries scores of a reranker or judge"
        what = f"{self.with_negatives:,} of {self.rows:,} rows carry hard negatives"
        unused = sum(self.kinds[kind] for kind in ("label", "teacher", "single", "unnamed"))
        return "infonce", what + (
            f"; the scores of {unused:,} rows are not used (--loss kl, infonce+kl, cosent)"
            if unused
            else ""
        )


@dataclass(frozen=True)
class Needs:
    """What a row must have to be trained with a loss."""

    loss: str | None = None
    min_score: float | None = None

    @property
    def texts(self) -> bool:
        return self.loss == "simcse"

    def lack(self, row: dict[str, Any]) -> str:
        """Why this row is dropped; "" where it is not."""
        if not row["query"].strip():
            return "with a blank text" if self.texts else "with a blank query"
        if self.texts:
            return ""
        if not any(map(str.strip, row["pos"])):
            return "without a positive"
        below = (
            self.min_score is not None
            and row["pos_score_kind"] != "cosine"
            and max(row["pos_scores"] or [self.min_score]) < self.min_score
        )
        if below and self.loss in (None, "infonce", "infonce+kl", "triplet"):
            return "without a positive of --min-score"
        scores = scored(row) if self.loss in ("kl", "margin-mse", "cosent") else {}
        if self.loss == "cosent" and not scores:
            return "without scores for --loss cosent"
        if self.loss == "kl" and len(scores) < 2:
            return "without two scored documents for --loss kl"
        if self.loss == "margin-mse" and not (
            {*scores} & {*row["pos"]} and {*scores} & {*(row["neg"] or [])}
        ):
            return "without a scored positive and hard negative for --loss margin-mse"
        return ""


NOTHING = Needs()


def scored(row: dict[str, Any]) -> dict[str, float]:
    """The scored documents of a row and their scores; the positives' alone where the negatives' are of another kind."""
    found: dict[str, float] = {}
    kinds = {row[name] for name in ("pos_score_kind", "neg_score_kind") if row[name]}
    for role in ("pos", "neg") if len(kinds) < 2 else ("pos",):
        for text, score in zip(row[role] or [], row[f"{role}_scores"] or []):
            if text.strip():
                found.setdefault(text, score)
    return found
