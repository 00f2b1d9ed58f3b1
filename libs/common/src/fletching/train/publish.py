"""The end of a run: its measures as a file, what the evaluations found, and the folder that is published."""

from __future__ import annotations

import inspect
import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

from fletching import cli, lineage, schema
from fletching.io import Reader, Writer
from fletching.report import Report
from fletching.train import metrics_log
from fletching.train.run_dir import RunDir

MEASURES = ("run", "step", "split", "name", "value", "unit")


def evaluations(log: str) -> dict[int, dict[str, float]]:
    """step: measures on held-out data."""
    found: dict[int, dict[str, float]] = {}
    for line in metrics_log.read(log):
        if line["split"] == "dev":
            found.setdefault(line["step"], {})[line["name"]] = line["value"]
    return found


def write_measures(
    log: str,
    folder: str,
    run: str,
    report: Report,
    tool: cli.Tool,
    settings: dict,
    sources: Iterable[Reader],
) -> None:
    """`measures.parquet`: the log as rows."""
    path = os.path.join(folder, "measures.parquet")
    columns = schema.load("measures").arrow(MEASURES)
    with Writer(
        report,
        path,
        "measures",
        columns,
        version=tool.version,
        options=settings,
        sources=list(sources),
        count=False,
    ) as out:
        for batch in metrics_log.batches(log, run):
            out.write(batch)


def publish(
    folder: RunDir,
    built: str,
    report: Report,
    *,
    step: dict[str, Any],
    end: dict[str, Any],
    card: str,
    rows: int,
    reached: int,
    why: str = "not reached by --steps",
) -> None:
    """Lineage and card go into the built folder, rows that training never saw are counted, the folder takes its place."""
    with open(os.path.join(built, "fletching.json"), "wb") as file:
        file.write(lineage.dump({"step": step, "end": end}))
    with open(os.path.join(built, "README.md"), "w", encoding="utf-8") as text:
        text.write(card)
    report.drop(why, rows - reached)
    report.rows_out = reached
    report.check()
    folder.publish(built)


def save_code(modules: Iterable[Any], folder: str) -> None:
    """Put the files of trusted classes of the model's own beside it: sentence-transformers saves their names alone."""
    for module in modules:
        if type(module).__module__.startswith("transformers_modules."):
            for path in pathlib.Path(inspect.getfile(type(module))).parent.glob("*.py"):
                if path.name != "__init__.py":
                    shutil.copy(path, folder)
