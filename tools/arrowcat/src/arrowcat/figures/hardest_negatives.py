"""The negatives that score nearest to, or above, a positive of their query."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowcat.rows.row_selection import NumberedRows
from fletching.schema import column
from fletching.text import normalise
from fletching.text_keys import WORD

NUMBER_LIST = pa.list_(pa.float32())
# Rows whose texts are compared word by word where there are no scores.
MOST_COMPARED = 20_000


@dataclass(frozen=True, kw_only=True, order=True)
class HardNegative:
    """A negative beside its positive.

    hardness: the negative's score minus the positive's, or the share of words that both texts have.
    """

    hardness: float
    minus_row: int  # so that of equally hard ones the first row wins
    query: str
    positive: str
    negative: str
    positive_score: float | None = None
    negative_score: float | None = None

    @property
    def row(self) -> int:
        """Its number in the input."""
        return -self.minus_row


class HardestNegatives:
    """The `most` hardest negatives, one of a row. by_score: is hardness a difference of scores?"""

    def __init__(self, most: int) -> None:
        self.most = most
        self.by_score = True
        self.compared = 0
        self._heap: list[HardNegative] = []

    def add(self, part: NumberedRows) -> None:
        """Look at more rows."""
        batch = part.batch
        if "neg" not in batch.schema.names:
            return
        has_scores = "neg_scores" in batch.schema.names and "pos_scores" in batch.schema.names
        hardest = _hardest_by_score(batch) if has_scores else {}
        if hardest and self.by_score:
            for position, (hardness, index) in hardest.items():
                if hardness >= self._least_hard():
                    self._push(_scored(part, position, index))
        elif not self._heap or not self.by_score:
            self._add_by_words(part)

    def _add_by_words(self, part: NumberedRows) -> None:
        self.by_score = False
        for position in range(part.batch.num_rows):
            if self.compared >= MOST_COMPARED:
                return
            self.compared += 1
            candidate = _nearest_in_words(part, position)
            if candidate is not None:
                self._push(candidate)

    def _least_hard(self) -> float:
        """How hard a negative must be to be kept."""
        if len(self._heap) < self.most:
            return -math.inf
        return self._heap[0].hardness

    def _push(self, candidate: HardNegative) -> None:
        heapq.heappush(self._heap, candidate)
        if len(self._heap) > self.most:
            heapq.heappop(self._heap)

    def ranked(self) -> list[HardNegative]:
        """The hardest first."""
        return sorted(self._heap, reverse=True)


def _hardest_by_score(batch: pa.RecordBatch) -> dict[int, tuple[float, int]]:
    """(hardness, index of the negative) by position of the row, where both sides are scored alike.

    The positive of a row is the one with the highest score.
    """
    positive_kinds = column(batch, "pos_score_kind", pa.string())
    negative_kinds = column(batch, "neg_score_kind", pa.string())
    same_kind = pc.equal(positive_kinds.fill_null(""), negative_kinds.fill_null(""))
    is_alike = same_kind.to_pylist()
    hardest: dict[int, tuple[float, int]] = {}
    sides = zip(_complete_scores(batch, "neg"), _complete_scores(batch, "pos"))
    for position, (negatives, positives) in enumerate(sides):
        if is_alike[position] and negatives and positives:
            hardness = [score - max(positives) for score in negatives]
            index = int(np.argmax(hardness))
            hardest[position] = (hardness[index], index)
    return hardest


def _complete_scores(batch: pa.RecordBatch, side: str) -> list[list[float]]:
    """The scores of a side, row by row; [] where not each text has a finite one."""
    texts = pc.list_value_length(batch[side]).to_pylist()
    scores = column(batch, f"{side}_scores", NUMBER_LIST).to_pylist()
    complete = []
    for count, of_row in zip(texts, scores):
        numbers = [score for score in of_row or [] if _is_finite(score)]
        complete.append(numbers if len(numbers) == count else [])
    return complete


def _is_finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _scored(part: NumberedRows, position: int, index: int) -> HardNegative:
    [row] = part.batch.slice(position, 1).to_pylist()
    best = int(np.argmax(row["pos_scores"]))
    positive_score, negative_score = row["pos_scores"][best], row["neg_scores"][index]
    return HardNegative(
        hardness=negative_score - positive_score,
        minus_row=-int(part.numbers[position]),
        query=row["query"] or "",
        positive=row["pos"][best] or "",
        negative=row["neg"][index] or "",
        positive_score=positive_score,
        negative_score=negative_score,
    )


def _nearest_in_words(part: NumberedRows, position: int) -> HardNegative | None:
    """The negative that has most words in common with a positive of its row."""
    [row] = part.batch.slice(position, 1).to_pylist()
    nearest: HardNegative | None = None
    for positive in row["pos"] or []:
        words = _words(positive)
        for negative in row["neg"] or []:
            others = _words(negative)
            union = len(words | others)
            share = len(words & others) / max(union, 1)
            if nearest is not None and share <= nearest.hardness:
                continue
            nearest = HardNegative(
                hardness=share,
                minus_row=-int(part.numbers[position]),
                query=row["query"] or "",
                positive=positive or "",
                negative=negative or "",
            )
    return nearest


def _words(text: str | None) -> set[str]:
    return set(WORD.findall(normalise(text or "")))
