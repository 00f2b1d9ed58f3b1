"""The figures as rows of `measures`: one for each run, task and metric, with its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fletching import lineage, schema
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.contamination import Overlap
from mteb_eval.scoring.task_result import TaskResult

Row = dict[str, Any]
RunTaskSplit = tuple[str, str, str]

MEASURES = schema.load("measures")
COLUMNS = schema.extend(
    MEASURES,
    pa.schema([pa.field("p", pa.float64()), pa.field("settings", pa.string())]),
    *("run", "task", "split", "name", "value", "low", "high", "unit", "count"),
)


def measure_rows(
    figures: Sequence[Figure],
    results: Sequence[tuple[str, TaskResult]],
    overlaps: Sequence[tuple[str, Overlap]],
) -> pa.RecordBatch:
    """Rows of the figures, then of the overlaps with training data; both come with their run.

    A figure is one row and, beside a baseline, a second for its change (`ndcg_at_10_change`, with
    p). An overlap gives the shares of test texts seen (`queries_seen`, `queries_nearly_seen`), 0
    where none.
    """
    settings = {(run, result.label, result.split): result.settings for run, result in results}
    rows: list[Row] = []
    for figure in figures:
        rows += _figure_rows(figure, settings)
    for run, overlap in overlaps:
        rows += _overlap_rows(run, overlap)
    return pa.RecordBatch.from_pylist(rows, schema=COLUMNS)


def _figure_rows(figure: Figure, settings: Mapping[RunTaskSplit, Row]) -> Iterator[Row]:
    common: Row = {
        "run": figure.run,
        "task": figure.task,
        "split": figure.split,
        "count": figure.count,
        "settings": lineage.dump(settings[figure.run, figure.task, figure.split]).decode(),
    }
    yield common | {"name": figure.metric} | vars(figure.value)
    if figure.change is not None:
        name = f"{figure.metric}_change"
        yield common | {"name": name, "p": figure.p} | vars(figure.change)


def _overlap_rows(run: str, overlap: Overlap) -> Iterator[Row]:
    for name, share in overlap.measures().items():
        yield {
            "run": run,
            "task": overlap.texts.label,
            "split": overlap.texts.split,
            "count": len(overlap.seen),
            "name": name,
            "value": share,
        }
