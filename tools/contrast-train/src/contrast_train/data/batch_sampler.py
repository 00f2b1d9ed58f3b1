"""Which rows stand in which global batch: a pure function of (tasks of the rows, weights, batch, seed, epoch).

World size, micro-batches and earlier batches have no part in it. Needs no torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fletching.errors import InputError
from fletching.train.batch_order import random_permutation

SHOWN = 20  # tasks that `describe` names


@dataclass(frozen=True)
class Plan:
    """Global batches for a whole run.

    tasks: names; task_of: the task of each row (rows,); sizes: rows of each task that stand in an epoch.
    Batches hold one task each where there are several, unless `mixed`; tasks smaller than a batch share
    batches. A task is gone through again and again in new orders, `size` rows an epoch: with all its rows,
    each stands in every epoch exactly once; with fewer, each epoch has the next part; with more, some
    stand there several times. drop_last: leave out each epoch's smaller last batches.
    steps: batches of the run; the last epoch may be cut short.
    """

    tasks: tuple[str, ...]
    task_of: np.ndarray
    batch: int
    seed: int
    steps: int
    sizes: tuple[int, ...]
    mixed: bool = False
    drop_last: bool = False

    @property
    def rows(self) -> int:
        return len(self.task_of)

    @property
    def groups(self) -> list[list[int]]:
        """Tasks whose rows may meet in a batch."""
        drawn = [task for task, size in enumerate(self.sizes) if size]
        if self.mixed:
            return [drawn]
        small = [task for task in drawn if self.sizes[task] < self.batch]
        if len(small) < 2:
            small = []
        alone = [[task] for task in drawn if task not in small]
        return [*alone, small] if small else alone

    @property
    def epoch_steps(self) -> int:
        totals = [sum(self.sizes[task] for task in group) for group in self.groups]
        return sum(
            total // self.batch if self.drop_last else -(-total // self.batch) for total in totals
        )

    @property
    def reaches_all(self) -> bool:
        """Does a whole epoch hold every row?"""
        return not self.drop_last and all(
            size >= len(rows) for size, rows in zip(self.sizes, self._rows_of)
        )

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch, in order; each a row-number array of at most `batch`."""
        return [drawn[:, 1] for drawn in self.draws(epoch)]

    def draws(self, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch as (rows, 2): how often the task was gone through before, row number."""
        batches = []
        for group in self.groups:
            drawn = np.concatenate([self._part(task, epoch) for task in group])
            if len(group) > 1:
                name = " + ".join(self.tasks[task] for task in group)
                drawn = drawn[random_permutation(len(drawn), self.seed, f"{epoch} {name}")]
            end = len(drawn) - (len(drawn) % self.batch if self.drop_last else 0)
            batches += [drawn[start : start + self.batch] for start in range(0, end, self.batch)]
        return [batches[i] for i in random_permutation(len(batches), self.seed, f"{epoch} batches")]

    def _part(self, task: int, epoch: int) -> np.ndarray:
        """What an epoch takes of a task's endless sequence of orders."""
        rows, size = self._rows_of[task], self.sizes[task]
        parts, at = [], epoch * size
        while at < (epoch + 1) * size:
            turn, place = divmod(at, len(rows))
            order = rows[random_permutation(len(rows), self.seed, f"{turn} {self.tasks[task]}")]
            taken = order[place : place + (epoch + 1) * size - at]
            parts.append(np.stack([np.full(len(taken), turn), taken], 1))
            at += len(taken)
        return np.concatenate(parts)

    @functools.cached_property
    def _rows_of(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.task_of == task) for task in range(len(self.tasks))]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Batches of (times the task was gone through, row) for all steps: the batch sampler of a DataLoader."""
        for epoch in range(math.ceil(self.steps / self.epoch_steps)):
            for batch in self.draws(epoch)[: self.steps - epoch * self.epoch_steps]:
                yield [(int(turn), int(row)) for turn, row in batch]

    def __len__(self) -> int:
        return self.steps

    def describe(self) -> list[str]:
        """One line a task: its rows, how often seen, how many are left out."""
        lines = []
        for group in [*self.groups, *([task] for task, size in enumerate(self.sizes) if not size)]:
            for task in group:
                seen = self.seen[self._rows_of[task]]
                label = f"task {self.tasks[task]}: " if self.tasks[task] else ""
                shared = (
                    f"shared by {len(group)} tasks"
                    if len(group) > 1
                    else f"of {min(self.batch, self.sizes[task]):,}"
                )
                lines.append(
                    f"{label}{len(seen):,} rows in batches {shared}, seen {seen.mean():.3g} x, {int((seen == 0).sum()):,} left out"
                )
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f"and {len(lines) - SHOWN:,} tasks more"]
        return lines

    @functools.cached_property
    def seen(self) -> np.ndarray:
        """How many times each row stands in the plan (rows,)."""
        seen = np.zeros(self.rows, np.int64)
        for epoch in range(math.ceil(self.steps / self.epoch_steps)):
            for batch in self.epoch(epoch)[: self.steps - epoch * self.epoch_steps]:
                np.add.at(seen, batch, 1)
        return seen


def plan(
    tasks: Sequence[str | None],
    *,
    batch: int,
    seed: int,
    epochs: float | None,
    steps: int | None,
    sizes: Sequence[int] | None = None,
    mixed: bool = False,
    drop_last: bool = False,
) -> Plan:
    """The plan of a run of `steps` batches, or of `epochs` passes. sizes: rows an epoch of each task, in the
    order in which tasks come up in `tasks`; all of them where it is None. Raises InputError for a plan without a batch."""
    names, task_of, counts = numbered(tasks)
    whole = Plan(
        names, task_of, batch, seed, 0, tuple(counts if sizes is None else sizes), mixed, drop_last
    )
    if not whole.epoch_steps:
        raise InputError(
            f"no batch of {batch} comes together from {whole.rows:,} rows",
            "take a smaller --batch, larger weights or no --drop-last",
        )
    return Plan(
        names,
        task_of,
        batch,
        seed,
        steps or math.ceil((epochs or 1) * whole.epoch_steps),
        whole.sizes,
        mixed,
        drop_last,
    )


def numbered(tasks: Sequence[str | None]) -> tuple[tuple[str, ...], np.ndarray, list[int]]:
    """(names, the number of each row's task, rows of each)."""
    names = {
        name: number for number, name in enumerate(dict.fromkeys(name or "" for name in tasks))
    }
    task_of = np.array([names[name or ""] for name in tasks], np.int64)
    return tuple(names), task_of, np.bincount(task_of, minlength=len(names)).tolist()
