"""The end of a run: its measures as a file, and the model folder that takes its place."""

from __future__ import annotations

import inspect
import os
import pathlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching import lineage, schema
from fletching.io import Reader, Writer
from fletching.options import TrainingOptions
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train import metrics_log
from fletching.train.run_dir import RunDir

if TYPE_CHECKING:
    from fletching.cli import Tool

EXTENSIONS = "transformers_modules."  # where transformers imports a model's own code from


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A trained model on its way from `DIR.run` to DIR.

    folder: the model as built inside the run folder. settings: the options in its lineage.
    """

    run_dir: RunDir
    folder: str
    report: Report
    tool: Tool
    settings: Lineage

    def write_measures(self, log: str, sources: Sequence[Reader]) -> None:
        """Write the metrics log as `measures.parquet`. sources: what the run read."""
        with Writer(
            self.report,
            os.path.join(self.folder, "measures.parquet"),
            "measures",
            columns=schema.load("measures").arrow(metrics_log.COLUMNS),
            version=self.tool.version,
            options=self.settings,
            sources=list(sources),
            count=False,
        ) as writer:
            run_name = os.path.basename(self.run_dir.output)
            for batch in metrics_log.record_batches(log, run_name):
                writer.write(batch)

    def publish(
        self,
        *,
        lineage_node: Lineage,
        end: Lineage,
        card: str,
        rows: int,
        rows_trained: int,
        reason: str,
    ) -> None:
        """Write lineage and card into the model folder, count its rows, rename it to DIR.

        end: what is known once the run is over (digest, best step). rows: of the input; those
        beyond `rows_trained` are reported as dropped, with the reason.
        """
        end = {**end, "run": self.run_dir.identity}
        document = lineage.dump({"step": lineage_node, "end": end})
        pathlib.Path(self.folder, "fletching.json").write_bytes(document)
        pathlib.Path(self.folder, "README.md").write_text(card, encoding="utf-8")
        self.report.drop(reason, rows - rows_trained)
        self.report.rows_out = rows_trained
        self.report.check()
        self.run_dir.publish(self.folder)


def unreached(options: TrainingOptions) -> str:
    """Why training saw a row at no time: the option that ended the run before."""
    return f"not reached by --{'steps' if options.epochs is None else 'epochs'}"


def evaluations(log: str) -> dict[int, dict[str, float]]:
    """Measures on held-out data, by training step."""
    by_step: dict[int, dict[str, float]] = {}
    for line in metrics_log.read(log):
        if line["split"] == "dev":
            by_step.setdefault(line["step"], {})[line["name"]] = line["value"]
    return by_step


def save_code(modules: Iterable[object], folder: str) -> None:
    """Copy the Python files of a model's trusted custom classes beside it.

    sentence-transformers saves their names alone.
    """
    for module in modules:
        cls = type(module)
        if not cls.__module__.startswith(EXTENSIONS):
            continue
        for path in pathlib.Path(inspect.getfile(cls)).parent.glob("*.py"):
            if path.name != "__init__.py":
                shutil.copy(path, folder)
