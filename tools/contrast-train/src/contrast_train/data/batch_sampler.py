"""Which rows are in which global batch: a function of (tasks of the rows, sizes, batch, seed,
epoch).

World size, micro-batches and earlier batches have no part in it. Needs no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fletching.errors import InputError
from fletching.train.batch_order import deal, random_permutation

Integers = npt.NDArray[np.int64]
MAX_DESCRIBED = 20  # tasks that `describe` names


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How batches are formed.

    batch: rows in a global batch, at most. mixed: a batch may hold rows of several tasks.
    drop_last: every batch is full, and the rows that are left over in an epoch are left out.
    """

    batch: int
    seed: int = 0
    mixed: bool = False
    drop_last: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The global batches of a whole run; also the batch sampler of its DataLoader.

    tasks: names. task_of_row (rows,): the task of each row. sizes: rows of each task in an
    epoch. steps: batches of the run; the last epoch may be cut short.

    Batches hold one task each where there are several, unless `mixed`; tasks smaller than a
    batch share batches. Rows are dealt out evenly: the batches of a task differ by one row at
    most, and none is a single row where it can be avoided. A task is passed through again and
    again in new orders, `size` rows an epoch: with all its rows, each is in every epoch exactly
    once; with fewer, each epoch has the next part; with more, some are there several times.
    """

    tasks: tuple[str, ...]
    task_of_row: Integers
    sizes: tuple[int, ...]
    steps: int
    settings: PlanSettings

    @property
    def rows(self) -> int:
        """Rows of the data, in the plan or not."""
        return len(self.task_of_row)

    @property
    def batch(self) -> int:
        """Rows in a global batch, at most."""
        return self.settings.batch

    @property
    def groups(self) -> list[list[int]]:
        """Tasks whose rows may meet in a batch."""
        drawn = [task for task, size in enumerate(self.sizes) if size]
        if self.settings.mixed:
            return [drawn]
        small = [task for task in drawn if self.sizes[task] < self.batch]
        if len(small) < 2:
            return [[task] for task in drawn]
        return [*([task] for task in drawn if task not in small), small]

    @property
    def epoch_steps(self) -> int:
        """Batches in an epoch."""
        return sum(map(self._batches_in, self.groups))

    def _batches_in(self, group: list[int]) -> int:
        rows = sum(self.sizes[task] for task in group)
        if self.settings.drop_last:
            return rows // self.batch
        return math.ceil(rows / self.batch)

    def _dealt_sizes(self, task: int) -> str:
        """The rows of the batches that an epoch of this task is dealt into, in words."""
        rows, batches = self.sizes[task], self._batches_in([task])
        if self.settings.drop_last or not batches:
            return f"{min(self.batch, rows):,}"
        smaller, larger = rows // batches, math.ceil(rows / batches)
        return f"{larger:,}" if smaller == larger else f"{larger:,} and {smaller:,}"

    @property
    def reaches_all(self) -> bool:
        """Does a whole epoch hold every row?"""
        if self.settings.drop_last:
            return False
        return all(size >= len(rows) for size, rows in zip(self.sizes, self._rows_of_task))

    def epoch(self, epoch: int) -> list[Integers]:
        """The batches of one epoch, in order: row numbers, at most `batch` of them."""
        return [visits[:, 1] for visits in self.visits(epoch)]

    def visits(self, epoch: int) -> list[Integers]:
        """The batches of one epoch as (rows, 2): passes through the task before, row number."""
        batches: list[Integers] = []
        seed = self.settings.seed
        for group in self.groups:
            visits = np.concatenate([self._epoch_of_task(task, epoch) for task in group])
            if len(group) > 1:
                name = " + ".join(self.tasks[task] for task in group)
                visits = visits[random_permutation(len(visits), seed, f"{epoch} {name}")]
            count = self._batches_in(group)
            if self.settings.drop_last:
                visits = visits[: count * self.batch]
            batches += deal(visits, count) if count else []
        order = random_permutation(len(batches), seed, f"{epoch} batches")
        return [batches[position] for position in order]

    def _epoch_of_task(self, task: int, epoch: int) -> Integers:
        """The rows (size, 2) that an epoch takes of a task's endless sequence of orders."""
        rows, size = self._rows_of_task[task], self.sizes[task]
        parts = []
        start, end = epoch * size, (epoch + 1) * size
        while start < end:
            turn, position = divmod(start, len(rows))
            name = f"{turn} {self.tasks[task]}"
            order = rows[random_permutation(len(rows), self.settings.seed, name)]
            taken = order[position : position + end - start]
            parts.append(np.stack([np.full(len(taken), turn), taken], 1))
            start += len(taken)
        return np.concatenate(parts)

    @functools.cached_property
    def _rows_of_task(self) -> list[Integers]:
        return [np.flatnonzero(self.task_of_row == task) for task in range(len(self.tasks))]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Batches of (passes through the task before, row number), for all steps."""
        for visits in self._all_visits():
            yield [(int(turn), int(row)) for turn, row in visits]

    def _all_visits(self) -> Iterator[Integers]:
        for epoch in range(math.ceil(self.steps / self.epoch_steps)):
            yield from self.visits(epoch)[: self.steps - epoch * self.epoch_steps]

    def is_reached(self, steps: int) -> npt.NDArray[np.bool_]:
        """Which rows the first `steps` batches hold (rows,)."""
        return dataclasses.replace(self, steps=min(steps, self.steps)).visit_counts > 0

    def __len__(self) -> int:
        return self.steps

    @functools.cached_property
    def visit_counts(self) -> Integers:
        """How many times each row is in the plan (rows,)."""
        counts = np.zeros(self.rows, np.int64)
        for visits in self._all_visits():
            np.add.at(counts, visits[:, 1], 1)
        return counts

    def describe(self) -> list[str]:
        """One line a task: its rows, how often they are seen, how many are left out."""
        undrawn = [[task] for task, size in enumerate(self.sizes) if not size]
        groups = [*self.groups, *undrawn]
        lines = [self._describe_task(task, group) for group in groups for task in group]
        if len(lines) > MAX_DESCRIBED:
            lines[MAX_DESCRIBED:] = [f"and {len(lines) - MAX_DESCRIBED:,} tasks more"]
        single = sum(len(batch) == 1 for batch in self.epoch(0))
        if single:
            lines.append(
                f"{single:,} batches an epoch have a single row, whose only negatives are its own"
            )
        return lines

    def _describe_task(self, task: int, group: list[int]) -> str:
        counts = self.visit_counts[self._rows_of_task[task]]
        label = f"task {self.tasks[task]}: " if self.tasks[task] else ""
        batches = f"of {self._dealt_sizes(task)}"
        if len(group) > 1:
            batches = f"shared by {len(group)} tasks"
        left_out = int((counts == 0).sum())
        return (
            f"{label}{len(counts):,} rows in batches {batches}, seen {counts.mean():.3g} x, "
            f"{left_out:,} left out"
        )


def plan(
    task_of_row: Sequence[str | None],
    settings: PlanSettings,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    sizes: Sequence[int] | None = None,
) -> BatchPlan:
    """The plan of a run of `steps` batches, or of `epochs` passes [1].

    sizes: rows an epoch of each task, in the order in which tasks come up; None: all of them.
    Raises InputError for a plan without a batch.
    """
    numbered = number_tasks(task_of_row)
    whole = BatchPlan(
        tasks=numbered.names,
        task_of_row=numbered.task_of_row,
        sizes=tuple(numbered.counts if sizes is None else sizes),
        steps=0,
        settings=settings,
    )
    if not whole.epoch_steps:
        raise InputError(
            f"{whole.rows:,} rows do not fill a batch of {settings.batch}",
            "take a smaller --batch, larger weights or no --drop-last",
        )
    return dataclasses.replace(whole, steps=steps or math.ceil((epochs or 1) * whole.epoch_steps))


class NumberedTasks(NamedTuple):
    """The tasks of the rows, in the order in which they come up; "" for rows without one."""

    names: tuple[str, ...]
    task_of_row: Integers  # (rows,)
    counts: list[int]  # rows of each


def number_tasks(task_of_row: Sequence[str | None]) -> NumberedTasks:
    """Number the tasks of the rows."""
    labels = [name or "" for name in task_of_row]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(labels))}
    numbered = np.array([numbers[name] for name in labels], np.int64)
    counts = np.bincount(numbered, minlength=len(numbers)).tolist()
    return NumberedTasks(tuple(numbers), numbered, counts)
