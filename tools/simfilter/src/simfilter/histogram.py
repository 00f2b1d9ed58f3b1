"""Counts of scores by range, over all rows and by domain, for the JSON summary."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fletching import schema
from fletching.arrays import Numbers, Scores
from fletching.row_columns import list_owners

MOST_DOMAINS = 1000  # with a histogram each; the others share one
OTHER_DOMAINS = "(other domains)"


class Histogram:
    """Bins of 0.1 for cosines and of 1 for other scores; empty bins are left out."""

    def __init__(self, score_kind: str) -> None:
        self.score_kind = score_kind
        self.bins_per_unit = 10 if score_kind == "cosine" else 1
        self.all: Counter[int] = Counter()
        self.by_domain: dict[str | None, Counter[int]] = {}

    def add(self, rows: pa.RecordBatch, scores: Scores) -> None:
        """Count the scores (p,) of the positives of these rows."""
        domains = schema.column(rows, "domain", pa.string()).cast(pa.string())
        domain = pl.Series("domain", domains).gather(list_owners(rows["pos"]))
        frame = pl.DataFrame([domain, pl.Series("bin", self._bins(scores))])
        counts = frame.group_by("domain", "bin", maintain_order=True).len()
        for name, number, count in counts.iter_rows():
            self.all[number] += count
            self._counter_of(name)[number] += count

    def _bins(self, scores: Scores) -> Numbers:
        bins = np.floor(np.round(scores.astype(float) * self.bins_per_unit, 4)).astype(int)
        if self.score_kind == "cosine":
            return bins.clip(-10, 9)  # 1.0 belongs to the last bin
        return bins

    def _counter_of(self, domain: str | None) -> Counter[int]:
        if domain not in self.by_domain and len(self.by_domain) >= MOST_DOMAINS:
            domain = OTHER_DOMAINS
        return self.by_domain.setdefault(domain, Counter())

    def measures(self) -> dict[str, Any]:
        """{lower edge of the bin: positives}, lowest first, of all rows and of each domain."""
        measures: dict[str, Any] = {
            "score_kind": self.score_kind,
            "score_histogram": self._by_edge(self.all),
        }
        if self.by_domain.keys() - {None}:
            ordered = sorted(self.by_domain, key=lambda name: name or "")
            measures["score_histogram_by_domain"] = {
                name or "(none)": self._by_edge(self.by_domain[name]) for name in ordered
            }
        return measures

    def _by_edge(self, counter: Counter[int]) -> dict[str, int]:
        return {f"{number / self.bins_per_unit:g}": counter[number] for number in sorted(counter)}
