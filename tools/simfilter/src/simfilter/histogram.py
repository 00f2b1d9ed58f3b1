"""Counts of scores by range, over all rows and by domain, for the JSON summary."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import schema
from simfilter.positive_units import lengths

DOMAINS = 1000  # with a histogram of their own; the rest share one


class Histogram:
    """Bins of 0.1 for cosines and of 1 for other scores; only bins that hold something are kept."""

    def __init__(self, kind: str) -> None:
        self.kind, self.per_unit = kind, 10 if kind == "cosine" else 1
        self.all: Counter[int] = Counter()
        self.by_domain: dict[str | None, Counter[int]] = {}

    def add(self, rows: pa.RecordBatch, scores: np.ndarray) -> None:
        bins = np.floor(np.round(scores.astype(float) * self.per_unit, 4)).astype(int)
        if self.kind == "cosine":
            bins = bins.clip(-10, 9)  # 1.0 belongs to the last bin
        self._count(self.all, bins)
        domains = schema.column(rows, "domain", pa.string()).cast(pa.string()).dictionary_encode()
        if len(domains.dictionary):
            codes = np.repeat(
                domains.indices.fill_null(-1).to_numpy(zero_copy_only=False), lengths(rows)
            )
            for code in np.unique(codes):
                name = None if code < 0 else domains.dictionary[int(code)].as_py()
                if name not in self.by_domain and len(self.by_domain) >= DOMAINS:
                    name = "(other domains)"
                self._count(self.by_domain.setdefault(name, Counter()), bins[codes == code])

    def _count(self, counter: Counter[int], bins: np.ndarray) -> None:
        values, counts = np.unique(bins, return_counts=True)
        counter.update(dict(zip(values.tolist(), counts.tolist())))

    def measures(self) -> dict[str, Any]:
        """{lower edge of the bin: positives}, lowest first."""

        def edges(counter: Counter[int]) -> dict[str, int]:
            return {f"{value / self.per_unit:g}": counter[value] for value in sorted(counter)}

        found: dict[str, Any] = {"score_kind": self.kind, "score_histogram": edges(self.all)}
        if self.by_domain:
            ordered = sorted(self.by_domain, key=lambda name: name or "")
            found["score_histogram_by_domain"] = {
                name or "(none)": edges(self.by_domain[name]) for name in ordered
            }
        return found
