"""The figures as rows of `measures`: one a run, task and metric, with the settings that made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from fletching import lineage, schema
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.contamination import Overlap
from mteb_eval.scoring.task_result import Outcome

MEASURES = schema.load("measures")
COLUMNS = schema.extend(
    MEASURES,
    pa.schema([pa.field("p", pa.float64()), pa.field("settings", pa.string())]),
    *("run", "task", "split", "name", "value", "low", "high", "unit", "count"),
)


def rows(
    figures: Sequence[Figure],
    outcomes: Sequence[tuple[str, Outcome]],
    seen: Sequence[tuple[str, Overlap]],
) -> pa.RecordBatch:
    """A row for each figure, then one for its change against the baseline (`ndcg_at_10_change`, with p); then, by run,
    the shares of the test texts that its training data hold (`queries_seen`, `queries_nearly_seen`), 0 where none."""
    settings = {(run, outcome.label, outcome.split): outcome.settings for run, outcome in outcomes}
    made = [
        row
        for figure in figures
        for row in _rows(figure, settings[figure.run, figure.task, figure.split])
    ]
    for run, overlap in seen:
        place = {
            "run": run,
            "task": overlap.texts.label,
            "split": overlap.texts.split,
            "count": len(overlap.exact),
        }
        made += [
            place | {"name": name, "value": share} for name, share in overlap.measures().items()
        ]
    return pa.RecordBatch.from_pylist(made, schema=COLUMNS)


def _rows(figure: Figure, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    common = {"run": figure.run, "task": figure.task, "split": figure.split, "count": figure.count}
    common["settings"] = lineage.dump(settings).decode()
    yield common | {"name": figure.metric} | vars(figure.value)
    if figure.change is not None:
        yield common | {"name": f"{figure.metric}_change", "p": figure.p} | vars(figure.change)
