"""What a run reads: one sequence of rows, or a folder of JSONL files whose names are the tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from fletching import schema
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report

JSON = (".jsonl", ".json", ".ndjson")
SCHEMAS = ["examples", "texts"]


class Inputs:
    """Rows of `examples` or of `texts`, from readers in turn. `schema` and `steps` (lineage) are as a Reader's.

    A folder of JSON files is read one file or first-level folder a task: nq.jsonl and go/train/0.jsonl are
    of the tasks `nq` and `go`, where a row has no `task` of its own. Of a folder go/ with a train/ inside,
    that one alone is read. Raises InputError where examples and texts are mixed.
    """

    def __init__(
        self, report: Report, inputs: Sequence[str], limit: int | None = None, count: bool = True
    ) -> None:
        self.limit = limit
        self.parts: list[tuple[Reader, str | None]] = []
        named = [(name, by_task(name)) for name in inputs]
        if not any(files for _, files in named):
            self.parts = [(Reader(report, inputs, SCHEMAS, limit=limit, count=count), None)]
        for name, files in named if not self.parts else []:
            alone: list[tuple[str, str | None]] = [(name, None)]
            for path, task in files or alone:
                self.parts.append((Reader(report, [path], SCHEMAS, count=count), task))
        self.schema = self.parts[0][0].schema
        for reader, _ in self.parts:
            if reader.schema.name != self.schema.name:
                raise InputError(
                    f"{reader.sources[0].where} holds {reader.schema.name}, an input before {self.schema.name}",
                    "give it one kind",
                )
        tasks = list(dict.fromkeys(task for _, task in self.parts if task))
        if tasks:
            report.note(
                "tasks by file name: "
                + ", ".join(tasks[:10])
                + (f" and {len(tasks) - 10} more" if len(tasks) > 10 else "")
            )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = self.limit
        for reader, task in self.parts:
            if left == 0:
                return
            reader.limit = left
            for batch in reader:
                yield with_task(batch, task) if task and self.schema.name == "examples" else batch
            left = None if left is None else left - reader.rows

    @property
    def readers(self) -> list[Reader]:
        return [reader for reader, _ in self.parts]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [step for reader, _ in self.parts for step in reader.steps]


def with_task(batch: pa.RecordBatch, task: str) -> pa.RecordBatch:
    """The rows with this task where they have none."""
    own = schema.column(batch, "task", pa.string())
    filled = pa.array([task if name is None else name for name in own.to_pylist()], pa.string())
    if "task" in batch.schema.names:
        return batch.set_column(batch.schema.names.index("task"), "task", filled)
    return batch.append_column("task", filled)


def by_task(folder: str) -> list[tuple[str, str]]:
    """(path, task) of the JSON files of a folder; none where it is no folder or holds files of another kind."""
    if not os.path.isdir(folder):
        return []
    found = []
    for entry in _visible(folder):
        path = os.path.join(folder, entry)
        if os.path.isdir(path):
            inside = os.path.join(path, "train")
            found += [(name, entry) for name in _files(inside if os.path.isdir(inside) else path)]
        else:
            found.append((path, entry.split(".")[0]))
    data = [(path, task) for path, task in found if _stem(path).endswith(JSON)]
    return (
        data
        if len(data)
        == len([path for path, _ in found if _stem(path).endswith((*JSON, ".parquet", ".arrow"))])
        else []
    )


def _files(folder: str) -> list[str]:
    return [
        os.path.join(path, name)
        for path, folders, names in os.walk(folder)
        for name in sorted(names)
        if name[0] not in "._"
    ]


def _visible(folder: str) -> list[str]:
    return sorted(entry for entry in os.listdir(folder) if entry[0] not in "._")


def _stem(path: str) -> str:
    return path.removesuffix(".gz").removesuffix(".zst")
