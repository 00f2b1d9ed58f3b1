"""The rows of a streamed run as a data set: the row groups of one window are in memory.

A row group is read when a batch first needs a row of it, and forgotten when those of later
batches take its room. Each is a data set of its own: equal texts and known answers are found
within it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contrast_train.data.dataset import NumberedBatch, Prompts, TrainingDataset, TrainingExample
from contrast_train.data.examples_table import COLUMNS, RowSelector
from contrast_train.data.stream_plan import RowKey
from contrast_train.losses.requirements import DatasetStats
from fletching.errors import InputError
from fletching.io.row_groups import RowGroup, RowGroupReader
from fletching.report import Report
from fletching.table import BatchTable
from fletching.table.ragged_array import Integers, offsets_of

Flags = npt.NDArray[np.bool_]
PromptCounts = Counter[tuple[str, str | None]]  # rows by (task, prompt)


@dataclass(frozen=True, kw_only=True)
class TrainableGroup:
    """What of a row group can be trained.

    is_kept: of all its rows (rows,). drops: by reason. stats, prompts: of those that are kept.
    """

    table: BatchTable
    is_kept: Flags
    drops: Counter[str]
    stats: DatasetStats
    prompts: PromptCounts


class RowGroupSource:
    """Row groups of the inputs, with the rows that a loss can use.

    mixes_tasks: may a batch hold rows of several tasks? Raises InputError for a row with a
    `task` where it may not.
    """

    def __init__(self, reader: RowGroupReader, selector: RowSelector, *, mixes_tasks: bool) -> None:
        self.reader = reader
        self.selector = selector
        self.mixes_tasks = mixes_tasks

    @property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of each group, by the footers."""
        return tuple(group.rows for group in self.reader.groups)

    def load(self, number: int) -> TrainableGroup:
        """Read one row group."""
        group = self.reader.groups[number]
        batches: list[pa.RecordBatch] = []
        reasons: list[str] = []
        stats, prompts = DatasetStats(), PromptCounts()
        for batch in self.reader.read(group):
            selected = self.selector.select(batch, self._locate_from(group, len(reasons)))
            batches.append(selected.kept)
            reasons += selected.reasons
            for row, reason in zip(selected.rows, selected.reasons):
                if not reason:
                    self._check_task(row["task"], group)
                    stats.count(row)
                    prompts[row["task"] or "", row["prompt"]] += 1
        is_kept = np.array([not reason for reason in reasons], bool)
        drops = Counter(filter(None, reasons))
        return TrainableGroup(
            table=BatchTable(COLUMNS, batches),
            is_kept=is_kept,
            drops=drops,
            stats=stats,
            prompts=prompts,
        )

    def _locate_from(self, group: RowGroup, first: int) -> Callable[[int], str]:
        return lambda row: self.reader.locate(group, first + row)

    def _check_task(self, task: str | None, group: RowGroup) -> None:
        if task is not None and not self.mixes_tasks:
            raise InputError(
                f"{self.reader.sources[group.source].where} has rows of task {task[:40]!r}, and "
                "--stream does not keep the tasks of a batch apart",
                "pass --mix-tasks, or leave --stream out",
            )


class _GroupInMemory(NamedTuple):
    dataset: TrainingDataset
    positions: Integers  # of the rows of the group in the data set; those dropped have none
    is_kept: Flags


class StreamedDataset:
    """The rows of row groups by (epoch, row number), read as they are needed.

    most_rows: in memory, unless one row group is larger. prompts_seen: of the rows that were
    looked at before the run; where they have at most one prompt, which the model saves, another
    one later on is an InputError. sampling: of TrainingDataset.
    """

    def __init__(
        self,
        source: RowGroupSource,
        *,
        most_rows: int,
        prompts_seen: PromptCounts,
        sampling: dict[str, Any],
    ) -> None:
        self.source = source
        self.most_rows = most_rows
        self.prompts_seen = prompts_seen
        self.sampling = sampling
        self.task_prompts: dict[str, Prompts] = {}
        self.starts = offsets_of(source.group_rows)
        self.groups: OrderedDict[int, _GroupInMemory] = OrderedDict()  # the newest used last
        self.drops: Counter[str] = Counter()  # by reason, of `numbered_batches`

    def __len__(self) -> int:
        """Rows, those included that cannot be trained."""
        return int(self.starts[-1])

    def examples(self, keys: Sequence[RowKey]) -> list[TrainingExample]:
        """The rows of a batch that can be trained."""
        rows = (self._example(epoch, number) for epoch, number in keys)
        return [row for row in rows if row is not None]

    __getitems__ = examples  # what a DataLoader calls

    def _example(self, epoch: int, number: int) -> TrainingExample | None:
        group, row = self._locate(number)
        in_memory = self._group(group)
        if not in_memory.is_kept[row]:
            return None
        example = in_memory.dataset[epoch, int(in_memory.positions[row])]
        return dataclasses.replace(example, row=number)

    def _locate(self, number: int) -> tuple[int, int]:
        """(number of the row group, row within it)."""
        group = int(np.searchsorted(self.starts, number, side="right")) - 1
        return group, number - int(self.starts[group])

    def _group(self, number: int) -> _GroupInMemory:
        if number not in self.groups:
            rows = self.source.group_rows[number]
            while self.groups and self._rows_in_memory() + rows > self.most_rows:
                self.groups.popitem(last=False)
            group = self.source.load(number)
            self._check_prompts(group.prompts)
            self.groups[number] = _GroupInMemory(
                TrainingDataset(group.table, **self.sampling),
                np.cumsum(group.is_kept) - 1,
                group.is_kept,
            )
        self.groups.move_to_end(number)
        return self.groups[number]

    def _rows_in_memory(self) -> int:
        return sum(len(group.is_kept) for group in self.groups.values())

    def _check_prompts(self, prompts: PromptCounts) -> None:
        """Raise InputError for a prompt that changes which one the model saves."""
        seen = {prompt for _, prompt in self.prompts_seen}
        new = {prompt for _, prompt in prompts} - seen
        if new and len(seen - {None}) < 2:
            shown = " or ".join(sorted("none" if each is None else repr(each) for each in new))
            raise InputError(
                f"the query prompt of some rows is {shown}, and that of no row of the first "
                "window; the model would be saved with another one",
                "pass a larger --stream-window, or leave --stream out",
            )

    def row_ids(self, numbers: list[int]) -> list[str]:
        """What the user calls these rows."""
        ids = []
        for group, row in map(self._locate, numbers):
            in_memory = self._group(group)
            ids.append(in_memory.dataset.row(int(in_memory.positions[row]))["id"])
        return ids

    def sample(self, count: int) -> list[TrainingExample]:
        """At most so many rows of those that are in memory, at equal distances."""
        numbers = [
            int(self.starts[group]) + int(row)
            for group, in_memory in self.groups.items()
            for row in np.flatnonzero(in_memory.is_kept)
        ]
        chosen = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(int)
        return self.examples([(0, numbers[position]) for position in chosen.tolist()])

    def numbered_batches(self, is_needed: Flags) -> Iterator[NumberedBatch]:
        """All rows that can be trained with their numbers, read once more; counts the others.

        is_needed (rows,): row groups without such a row are not read.
        """
        self.drops = Counter()
        for number, start in enumerate(self.starts[:-1].tolist()):
            if not is_needed[start : self.starts[number + 1]].any():
                continue
            group = self.source.load(number)
            self.drops += group.drops
            numbers = start + np.flatnonzero(group.is_kept)
            for first, batch in zip(group.table.offsets, group.table.batches):
                yield NumberedBatch(numbers[first : first + len(batch)], batch)

    @property
    def trainable_rows(self) -> int:
        """Rows less those that `numbered_batches` has counted."""
        return len(self) - self.drops.total()

    def report_drops(self, report: Report) -> None:
        """Count the rows that cannot be trained, after `numbered_batches`."""
        for reason, rows in self.drops.items():
            report.drop(reason, rows)

    def repeated_queries(self) -> int:
        """How many rows in memory have a query that an earlier row of their row group has."""
        return sum(group.dataset.repeated_queries() for group in self.groups.values())

    def prompts(self) -> PromptCounts:
        """The number of rows by (task, prompt), of those that were looked at before the run."""
        return self.prompts_seen
