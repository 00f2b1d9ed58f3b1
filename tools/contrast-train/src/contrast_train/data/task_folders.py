"""What a run reads: one sequence of rows, or a folder of JSONL files whose names are the
tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from fletching import schema
from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.row_formats import detect_folder
from fletching.report import Report

if TYPE_CHECKING:
    from fletching.protocols import Lineage

JSON = (".jsonl", ".json", ".ndjson")
DATA = (*JSON, ".parquet", ".arrow")
SCHEMAS = ["examples", "texts"]
MAX_NAMED = 10  # tasks that the note names


class TrainingInputs:
    """Rows of `examples` or of `texts`, from readers in turn. `schema` and `steps` as a
    Reader's.

    A folder of JSON files is read one file or first-level folder a task: nq.jsonl and
    go/train/0.jsonl are of the tasks `nq` and `go`, where a row has no `task` of its own. Of
    a folder go/ with a train/ inside, only that one is read. Raises InputError where examples
    and texts are mixed.
    """

    def __init__(self, report: Report, inputs: Sequence[str], limit: int | None = None) -> None:
        self.limit = limit
        self.parts: list[tuple[Reader, str | None]] = []  # the task of its rows
        files_of_inputs = [files_by_task(name) for name in inputs]
        if any(files_of_inputs):
            for name, files in zip(inputs, files_of_inputs):
                alone: list[tuple[str, str | None]] = [(name, None)]
                for path, task in files or alone:
                    self.parts.append((Reader(report, [path], SCHEMAS, trains=True), task))
        else:
            self.parts = [(Reader(report, inputs, SCHEMAS, limit=limit, trains=True), None)]
        self.schema = self.parts[0][0].schema
        self._check_schemas()
        self._note_tasks(report)

    def _check_schemas(self) -> None:
        for reader, _ in self.parts:
            if reader.schema.name != self.schema.name:
                raise InputError(
                    f"{reader.sources[0].where} holds {reader.schema.name}, "
                    f"an input before {self.schema.name}",
                    "give it one kind",
                )

    def _note_tasks(self, report: Report) -> None:
        tasks = list(dict.fromkeys(task for _, task in self.parts if task))
        if tasks:
            more = f" and {len(tasks) - MAX_NAMED} more" if len(tasks) > MAX_NAMED else ""
            report.note(f"tasks by file name: {', '.join(tasks[:MAX_NAMED])}{more}")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = self.limit
        for reader, task in self.parts:
            if left == 0:
                return
            reader.limit = left
            for batch in reader:
                is_named = task and self.schema.name == "examples"
                yield fill_task(batch, task) if is_named else batch
            left = None if left is None else left - reader.rows

    def locate(self, number: int) -> str:
        """The name of the row with this number, from 0, among those that were read so far."""
        for reader, _ in self.parts:
            if number < reader.rows or reader is self.parts[-1][0]:
                break
            number -= reader.rows
        where = reader.sources[0].where if len(reader.sources) == 1 else "the inputs"
        return f"{where}, row {number + 1:,}"

    @property
    def readers(self) -> list[Reader]:
        """One for each part."""
        return [reader for reader, _ in self.parts]

    @property
    def steps(self) -> list[Lineage]:
        """The lineage of the inputs."""
        return [step for reader in self.readers for step in reader.lineage_nodes]


def fill_task(batch: pa.RecordBatch, task: str | None) -> pa.RecordBatch:
    """The rows with this task where they have none."""
    tasks = schema.column(batch, "task", pa.string()).to_pylist()
    filled = pa.array([task if name is None else name for name in tasks], pa.string())
    if "task" in batch.schema.names:
        return batch.set_column(batch.schema.names.index("task"), "task", filled)
    return batch.append_column("task", filled)


def files_by_task(folder: str) -> list[tuple[str, str]]:
    """(path, task) of the JSON files of a folder; none where it holds data of another kind."""
    if not os.path.isdir(folder) or detect_folder(folder) is not None:
        return []
    files: list[tuple[str, str]] = []
    for entry in sorted(filter(_is_visible, os.listdir(folder))):
        path = os.path.join(folder, entry)
        if os.path.isdir(path):
            train = os.path.join(path, "train")
            root = train if os.path.isdir(train) else path
            files += [(name, entry) for name in _files_below(root)]
        else:
            files.append((path, entry.split(".")[0]))
    data = [(path, task) for path, task in files if _stem(path).endswith(DATA)]
    is_json = all(_stem(path).endswith(JSON) for path, _ in data)
    return data if is_json else []


def _files_below(folder: str) -> list[str]:
    paths = []
    for path, _, names in os.walk(folder):
        paths += [os.path.join(path, name) for name in sorted(filter(_is_visible, names))]
    return paths


def _is_visible(name: str) -> bool:
    return name[0] not in "._"


def _stem(path: str) -> str:
    return path.removesuffix(".gz").removesuffix(".zst")
