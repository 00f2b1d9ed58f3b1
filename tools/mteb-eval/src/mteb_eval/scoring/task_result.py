"""What a model reached on a task: mteb's scores, and the observation of each query or pair."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mteb_eval.data.names import subset_label
from mteb_eval.scoring.metrics import METRICS, find_metric

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The result of one model variant on one task, split and subset.

    observed: one row for each query (`id`, `rank` of the first relevant document, a column for each
    metric) or pair (`label`, `cosine`); no rows where mteb's own figures are all that is known.
    effort: documents, seconds, texts. mteb_scores: the scores as mteb writes them.
    """

    task: str
    kind: str
    split: str
    subset: str
    main_metric: str
    scores: dict[str, float]
    observed: pa.Table
    settings: dict[str, Any] = field(default_factory=dict)
    effort: dict[str, Any] = field(default_factory=dict)
    mteb_scores: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int | None:
        """The number of queries or pairs; None where they are not known."""
        return self.observed.num_rows or None

    @property
    def label(self) -> str:
        """The task's name, with the subset where there are several: `STS17[en-de]`."""
        return subset_label(self.task, self.subset)

    @property
    def has_ranks(self) -> bool:
        """Are the observations queries with the rank of their first relevant document?"""
        return "rank" in self.observed.column_names

    def per_query(self, metric: str) -> Floats | None:
        """The metric of each query, (queries,), of a metric that is their mean; else None."""
        if not self.observed.num_rows or metric not in self.observed.column_names:
            return None
        values: Floats = self.observed[metric].to_numpy()
        return values

    def pairs(self) -> tuple[Floats, Floats] | None:
        """(labels, cosines) of a task on pairs, both (pairs,); else None."""
        if not self.observed.num_rows or "cosine" not in self.observed.column_names:
            return None
        return self.observed["label"].to_numpy(), self.observed["cosine"].to_numpy()

    def recompute(self, metric: str) -> float | None:
        """The metric from the observations; None where it does not follow from them."""
        values = self.per_query(metric)
        if values is not None:
            return float(values.mean())
        definition, pairs = find_metric(metric), self.pairs()
        if definition is None or definition.of_pairs is None or pairs is None:
            return None
        return definition.of_pairs(*pairs)

    def require_agreement(self, tolerance: float) -> None:
        """Raises RuntimeError where a score of mteb is not what the observations give."""
        for metric, value in self.scores.items():
            recomputed = self.recompute(metric)
            if recomputed is not None and abs(recomputed - value) > tolerance:
                raise RuntimeError(
                    f"{self.task}: {metric} is {value} by mteb and {recomputed} by its observations"
                )

    def with_computed_scores(self) -> TaskResult:
        """The same with the scores of registered metrics that mteb does not compute."""
        computed = {}
        for metric in METRICS.values():
            if metric.kinds and self.kind not in metric.kinds:
                continue
            for name in metric.names:
                value = self.recompute(name)
                if value is not None:
                    computed[name] = value
        return replace(self, scores=computed | self.scores)
