"""The log of a run's measures, with its progress line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from fletching import schema
from fletching.errors import InputError
from fletching.report import Progress
from fletching.table import atomic
from fletching.train.distributed import process_group

LogLine = dict[str, Any]  # step, split, name, value

COLUMNS = ("run", "step", "split", "name", "value", "unit")
UNITS = {"tokens_per_second": "tokens/s"}
ROWS_PER_BATCH = 8192


class MetricsLog:
    """The measures of a run, appended to a file line by line, so that a killed run loses none.

    The first process writes them. step: lines of later steps, which a resumed run repeats, are
    removed.
    """

    def __init__(self, path: str, progress: Progress, step: int) -> None:
        self.progress = progress
        self.tokens = 0  # since the newest step
        self.step_start = time.monotonic()
        if not process_group.is_main():
            path = os.devnull
        elif os.path.exists(path):
            kept = [line for line in read(path) if line["step"] <= step]
            atomic.write_text(path, "".join(_encode(line) for line in kept))
        self.file = open(path, "a", encoding="utf-8")

    def log_step(
        self, step: int, *, loss: float, learning_rate: float, gradient_norm: float
    ) -> None:
        """Log the measures of one step and advance the progress line."""
        now = time.monotonic()
        tokens_per_second = self.tokens / max(now - self.step_start, 1e-9)
        self.tokens = 0
        self.step_start = now
        values = {
            "loss": loss,
            "learning_rate": learning_rate,
            "grad_norm": gradient_norm,
            "tokens_per_second": round(tokens_per_second),
        }
        self.log_values(step, values)
        self.progress.advance(
            1,
            f"loss {loss:.4f}, lr {learning_rate:.2g}, "
            f"grad norm {gradient_norm:.3g}, {tokens_per_second:,.0f} tokens/s",
        )

    def log_evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Log measures on held-out data; their time does not count as a step's."""
        self.log_values(step, values, split="dev")
        self.step_start = time.monotonic()

    def log_values(
        self, step: int, values: Mapping[str, float], *, split: str | None = None
    ) -> None:
        """Append one line for each value. split: the data it was measured on."""
        for name, value in values.items():
            line = {"step": step, "split": split, "name": name, "value": value}
            self.file.write(_encode(line))
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _encode(line: LogLine) -> str:
    return json.dumps(line) + "\n"


def read(path: str) -> list[LogLine]:
    """The lines of a log; a last line that a kill cut short is left out."""
    if not os.path.exists(path):
        return []
    logged = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.endswith("\n"):
                logged.append(_decode(line, where=f"{path}, line {number:,}"))
    return logged


def _decode(line: str, where: str) -> LogLine:
    """A line as it was written. Raises InputError where it is damaged."""
    try:
        content: LogLine = json.loads(line)
        is_text = isinstance(content["name"], str) and isinstance(content["split"], str | None)
        is_number = isinstance(content["value"], float | int | None)
        if type(content["step"]) is not int or not is_text or not is_number:
            raise ValueError("no measure")
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{where} is damaged", "delete that line: its measures are lost") from None
    return content


def record_batches(path: str, run: str) -> Iterator[pa.RecordBatch]:
    """The log as rows of the schema `measures`. run: the name of the run in each row."""
    lines = read(path)
    columns = schema.load("measures").arrow(COLUMNS)
    for start in range(0, len(lines), ROWS_PER_BATCH):
        rows = [
            line | {"run": run, "unit": UNITS.get(line["name"])}
            for line in lines[start : start + ROWS_PER_BATCH]
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=columns)
