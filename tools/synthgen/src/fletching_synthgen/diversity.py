"""How diverse the generated texts of a task are."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

SAMPLE_ROWS = 1000  # rows that are looked at; memory does not grow with the rest
OPENING_WORDS = 3


@dataclass(kw_only=True)
class Diversity:
    """Counts of words, word pairs and openings over the first thousand rows of a task."""

    rows: int = 0
    words: Counter[str] = field(default_factory=Counter)
    word_pairs: Counter[str] = field(default_factory=Counter)
    openings: Counter[str] = field(default_factory=Counter)
    total_lengths: Counter[str] = field(default_factory=Counter)  # in words, by field

    def add(self, texts: Mapping[str, str]) -> None:
        """Count a row, {field: text}; its first text stands for it."""
        self.rows += 1
        for name, text in texts.items():
            self.total_lengths[name] += len(text.split())
        if self.rows > SAMPLE_ROWS:
            return
        first_text = next(iter(texts.values()))
        words = re.findall(r"\w+", first_text.lower())
        self.words.update(words)
        self.word_pairs.update(f"{first} {second}" for first, second in itertools.pairwise(words))
        self.openings[" ".join(words[:OPENING_WORDS])] += 1

    def figures(self) -> dict[str, float]:
        """Rows, mean lengths, the share of the commonest opening, distinct_1 and distinct_2.

        distinct_n: different n-grams as a fraction of all (Li et al. 2016, arXiv 1510.03055).
        """
        sampled = min(self.rows, SAMPLE_ROWS)
        figures = {
            "distinct_1": len(self.words) / max(self.words.total(), 1),
            "distinct_2": len(self.word_pairs) / max(self.word_pairs.total(), 1),
            "commonest_opening": max(self.openings.values(), default=0) / max(sampled, 1),
        }
        for name, total in self.total_lengths.items():
            figures[f"{name}_words"] = total / max(self.rows, 1)
        rounded = {name: round(value, 4) for name, value in figures.items()}
        return {"rows": self.rows, **rounded}
