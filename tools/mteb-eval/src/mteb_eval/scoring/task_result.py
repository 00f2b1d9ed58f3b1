"""What a model did on a task: mteb's scores, and the observation of each query or pair behind them.

The figures of an interval or a test are recomputed from the observations, never from mteb's means, and
the two are compared: a difference is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from mteb.abstasks import AbsTaskPairClassification, AbsTaskRetrieval
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.sts import AbsTaskSTS
from scipy.stats import rankdata

from mteb_eval.data.local_tasks import pessimistic_rank
from mteb_eval.scoring.metrics import CUTS

FAMILIES = {
    "ndcg": "ndcg_cut",
    "map": "map_cut",
    "recall": "recall",
    "precision": "P",
    "hit_rate": "success",
}
MISSED = 0  # the rank of the first relevant document when it is not among those retrieved


@dataclass
class Outcome:
    """The result of one task, split and subset for one model variant.

    observed: one row a query (`id`, `rank` of the first relevant document, a column a metric) or a pair
    (`label`, `cosine`); no rows where only mteb's own figure is known. main: the task's main score.
    """

    task: str
    kind: str
    split: str
    subset: str
    main: str
    scores: dict[str, float]
    observed: pa.Table
    settings: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)  # documents, seconds, texts
    raw: dict[str, Any] = field(default_factory=dict)  # mteb's scores as it writes them

    @property
    def count(self) -> int | None:
        return self.observed.num_rows or None

    @property
    def label(self) -> str:
        """The task's name, with the subset where there are several."""
        return self.task if self.subset == "default" else f"{self.task}[{self.subset}]"

    def statistic(self, metric: str) -> Callable[[np.ndarray], float] | None:
        """The metric as a function of the chosen rows, or None where no observation stands behind it."""
        if not self.observed.num_rows:
            return None
        if metric in self.observed.column_names:
            values = self.observed[metric].to_numpy()
            return lambda rows: float(values[rows].mean())
        of_pairs = PAIR_METRICS.get(metric)
        if of_pairs is None or "cosine" not in self.observed.column_names:
            return None
        labels, cosines = self.observed["label"].to_numpy(), self.observed["cosine"].to_numpy()
        return lambda rows: of_pairs(labels[rows], cosines[rows])

    def values(self, metric: str) -> np.ndarray | None:
        """The metric of each query [queries], for those that are means over queries."""
        return self.observed[metric].to_numpy() if metric in self.observed.column_names else None


def spearman(labels: np.ndarray, cosines: np.ndarray) -> float:
    return pearson(rankdata(labels), rankdata(cosines))


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / norm) if norm else 0.0


def average_precision(labels: np.ndarray, cosines: np.ndarray) -> float:
    """Σ (R_n - R_{n-1}) P_n over the distinct scores, highest first: tied pairs count as one step."""
    order = np.argsort(-cosines, kind="stable")
    hits = np.cumsum(labels[order])
    ends = np.append(
        np.flatnonzero(np.diff(cosines[order])), len(order) - 1
    )  # last row of each tied group
    if not hits[-1]:
        return 0.0
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / hits[-1])


PAIR_METRICS = {
    "cosine_spearman": spearman,
    "cosine_pearson": pearson,
    "cosine_ap": average_precision,
}


class Capture:
    """Watches a task while mteb evaluates it and keeps what its means are made of, by subset."""

    def __init__(self, task: AbsTask) -> None:
        self.task = task
        self.observed: dict[str, pa.Table] = {}
        self.documents: dict[str, int] = {}
        self.subset = ""
        self._watch("_evaluate_subset", self._evaluate_subset)
        if isinstance(task, AbsTaskRetrieval):
            self._watch("task_specific_scores", self._queries)
        elif isinstance(task, AbsTaskSTS):
            self._watch("_calculate_scores", self._pairs)
        elif isinstance(task, AbsTaskPairClassification):
            self._watch("_compute_metrics", self._pairs)

    def release(self) -> None:
        """Give the task its own methods back."""
        for method in (
            "_evaluate_subset",
            "task_specific_scores",
            "_calculate_scores",
            "_compute_metrics",
        ):
            vars(self.task).pop(method, None)

    def _watch(self, method: str, watcher: Callable[..., None]) -> None:
        inner = getattr(self.task, method)

        def watched(*arguments: Any, **named: Any) -> Any:
            watcher(*arguments, **named)
            return inner(*arguments, **named)

        setattr(self.task, method, watched)

    def _evaluate_subset(self, model: Any, data: Any, *, hf_subset: str, **_: Any) -> None:
        self.subset = hf_subset
        if isinstance(self.task, AbsTaskRetrieval):
            self.documents[hf_subset] = len(data["corpus"])

    def _queries(self, scores: Any, qrels: Any, results: Any, **_: Any) -> None:
        if getattr(self.task, "skip_first_result", False):  # as mteb has done for its scores
            results = {
                query: dict(sorted(found.items(), key=lambda item: item[1], reverse=True)[1:])
                for query, found in results.items()
            }
        self.observed[self.subset] = of_queries(scores, qrels, results)

    def _pairs(self, scores: Any, labels: Any) -> None:
        columns = {
            "label": np.asarray(labels, np.float64),
            "cosine": np.asarray(scores["cosine_scores"], np.float64),
        }
        self.observed[self.subset] = pa.table(columns)


def of_queries(scores: dict[str, dict[str, float]], qrels: Any, results: Any) -> pa.Table:
    """One row a query from mteb's per-query figures, sorted by id, so that models align.

    The reciprocal rank is computed here, since mteb keeps its mean alone; ties go to the larger
    document id first, as pytrec_eval and mteb have it.
    """
    names = sorted(scores)
    columns: dict[str, Any] = {
        "id": names,
        "rank": [_first_hit(qrels[name], results[name]) for name in names],
    }
    for family, theirs in FAMILIES.items():
        for cut in CUTS:
            if f"{theirs}_{cut}" in scores[names[0]]:
                columns[f"{family}_at_{cut}"] = np.array(
                    [scores[name][f"{theirs}_{cut}"] for name in names]
                )
    ranks = np.array(columns["rank"])
    for cut in CUTS:
        found = (ranks != MISSED) & (ranks <= cut)
        columns[f"mrr_at_{cut}"] = np.where(found, 1 / np.maximum(ranks, 1), 0.0)
    pessimistic = [pessimistic_rank(qrels[name], results[name]) for name in names]
    return pa.table(columns | {"mrr_pessimistic": 1 / np.array(pessimistic, np.float64)})


def _first_hit(grades: dict[str, int], retrieved: dict[str, float]) -> int:
    """Rank from 1 of the first relevant document; MISSED where none is retrieved."""
    hits = [(score, name) for name, score in retrieved.items() if grades.get(name, 0) > 0]
    if not hits:
        return MISSED
    best = max(hits)
    return 1 + sum((score, name) > best for name, score in retrieved.items())
