"""What a run tells while it goes on: a progress line, and the log of measures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pyarrow as pa

from fletching import schema
from fletching.report import Progress
from fletching.train.distributed import process_group

UNITS = {"tokens_per_second": "tokens/s"}


class MetricsLog:
    """The measures of a run, appended to a file line by line, so that a killed run loses none. The
    first process writes them."""

    def __init__(self, path: str, progress: Progress, step: int) -> None:
        self.progress = progress
        self.tokens = 0
        self.since = time.monotonic()
        if not process_group.is_main():
            self.file = open(os.devnull, "w")
            return
        lines = [line for line in read(path) if line["step"] <= step]
        temporary = path + ".tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        os.replace(temporary, path)
        self.file = open(path, "a", encoding="utf-8")

    def log_step(self, step: int, loss: float, lr: float, grad_norm: float) -> None:
        now = time.monotonic()
        speed = self.tokens / max(now - self.since, 1e-9)
        self.tokens, self.since = 0, now
        self.log_values(
            step,
            None,
            {
                "loss": loss,
                "learning_rate": lr,
                "grad_norm": grad_norm,
                "tokens_per_second": round(speed),
            },
        )
        self.progress.advance(
            1, f"loss {loss:.4f}, lr {lr:.2g}, grad norm {grad_norm:.3g}, {speed:,.0f} tokens/s"
        )

    def log_evaluation(self, step: int, values: dict[str, float]) -> None:
        self.log_values(step, "dev", values)
        self.since = time.monotonic()

    def log_values(self, step: int, split: str | None, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.file.write(json.dumps(dict(step=step, split=split, name=name, value=value)) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def read(path: str) -> list[dict]:
    """The lines of a log; a last line that a kill cut short is left out."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def record_batches(path: str, run: str) -> Iterator[pa.RecordBatch]:
    """The log as rows of the schema `measures`."""
    lines = read(path)
    columns = schema.load("measures").arrow(["run", "step", "split", "name", "value", "unit"])
    for start in range(0, len(lines), 8192):
        part = [
            line | {"run": run, "unit": UNITS.get(line["name"])}
            for line in lines[start : start + 8192]
        ]
        yield pa.RecordBatch.from_pylist(part, schema=columns)
