"""Records what the means of mteb are made of: each query or pair, while mteb evaluates a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from mteb.abstasks import AbsTaskPairClassification, AbsTaskRetrieval
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.sts import AbsTaskSTS

from mteb_eval.data.ranking import RankedQuery
from mteb_eval.scoring.metrics import METRICS

TOP_DOCUMENTS = 10  # of each query that are recorded

Scores = dict[str, dict[str, float]]  # by query id: mteb's figures, or scores by document id
TEXTS = pa.list_(pa.string())
Qrels = Mapping[str, Mapping[str, int]]  # grades by query id and document id


class ObservationRecorder:
    """Listens to the methods of a task in which mteb computes its scores.

    is_quantised: our cosines of pairs, which tie exactly, replace those that mteb computes.
    observed: by subset, one row for each query or pair. documents: the size of the corpus by
    subset.
    """

    def __init__(self, task: AbsTask, *, is_quantised: bool = False) -> None:
        self.task, self.is_quantised = task, is_quantised
        self.observed: dict[str, pa.Table] = {}
        self.documents: dict[str, int] = {}
        self.subset = ""
        self._listen("_evaluate_subset", self._on_subset)
        if isinstance(task, AbsTaskRetrieval):
            self._listen("task_specific_scores", self._on_queries)
        elif isinstance(task, AbsTaskSTS):
            self._listen("_calculate_scores", self._on_pairs)
        elif isinstance(task, AbsTaskPairClassification):
            self._listen("_compute_metrics", self._on_pairs)

    def release(self) -> None:
        """Give the task its own methods back."""
        for method in (
            "_evaluate_subset",
            "task_specific_scores",
            "_calculate_scores",
            "_compute_metrics",
        ):
            vars(self.task).pop(method, None)

    def _listen(self, method: str, listener: Callable[..., None]) -> None:
        """Call the listener with the arguments of the method, then the method."""
        original = getattr(self.task, method)

        def _call_both(*arguments: object, **keywords: object) -> object:
            listener(*arguments, **keywords)
            return original(*arguments, **keywords)

        setattr(self.task, method, _call_both)

    def _on_subset(
        self, model: object, data: Mapping[str, Any], *, hf_subset: str, **_: object
    ) -> None:
        self.subset = hf_subset
        if isinstance(self.task, AbsTaskRetrieval):
            self.documents[hf_subset] = len(data["corpus"])

    def _on_queries(self, scores: Scores, qrels: Qrels, results: Scores, **_: object) -> None:
        if getattr(self.task, "skip_first_result", False):  # as mteb has done for its scores
            results = {query: _without_first(documents) for query, documents in results.items()}
        self.observed[self.subset] = query_table(scores, qrels, results)

    def _on_pairs(
        self, scores: MutableMapping[str, Sequence[float]], labels: Sequence[float]
    ) -> None:
        if self.is_quantised:
            scores["cosine_scores"] = scores["similarity_scores"]
        self.observed[self.subset] = pa.table(
            {
                "label": np.asarray(labels, np.float64),
                "cosine": np.asarray(scores["cosine_scores"], np.float64),
            }
        )


def _without_first(documents: dict[str, float]) -> dict[str, float]:
    """The retrieved documents without the one of the highest score."""
    by_score = sorted(documents.items(), key=lambda item: item[1], reverse=True)
    return dict(by_score[1:])


def query_table(scores: Scores, qrels: Qrels, results: Scores) -> pa.Table:
    """One row for each query, sorted by id, so that models align.

    scores: mteb's figures by query. Columns: `id`, `rank` of the first relevant document (0: none
    was retrieved), `top_ids` of the ten best documents, and every registered metric that mteb's
    figures allow.
    """
    names = sorted(scores)
    queries = [RankedQuery(qrels[name], results[name], scores[name]) for name in names]
    columns: dict[str, Any] = {"id": names, "rank": [query.first_rank for query in queries]}
    columns["top_ids"] = pa.array([query.best(TOP_DOCUMENTS) for query in queries], TEXTS)
    for metric in METRICS.values():
        if metric.per_query is None:
            continue
        for column, depth in metric.names.items():
            values = [metric.per_query(query, depth) for query in queries]
            if None not in values:
                columns[column] = np.array(values, np.float64)
    return pa.table(columns)
