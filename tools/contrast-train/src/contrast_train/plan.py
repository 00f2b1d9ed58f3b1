"""Which rows stand in which global batch: a pure function of (tasks of the rows, batch, seed, epoch).

World size, micro-batches and earlier batches have no part in it. Needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fletching import draw


@dataclass(frozen=True)
class Plan:
    """Global batches for a whole run.

    tasks: names; task_of: the task of each row (rows,). Batches hold one task each where there are
    several; tasks smaller than a batch share batches. Every row stands in every epoch exactly once.
    steps: batches of the run; the last epoch may be cut short.
    """

    tasks: tuple[str, ...]
    task_of: np.ndarray
    batch: int
    seed: int
    steps: int

    @property
    def rows(self) -> int:
        return len(self.task_of)

    @property
    def groups(self) -> list[tuple[str, np.ndarray]]:
        """(name, rows) whose batches are not mixed with others."""
        counts = np.bincount(self.task_of, minlength=len(self.tasks))
        small = [task for task, count in enumerate(counts) if count < self.batch]
        if len(small) < 2:
            small = []
        alone = [(name, np.flatnonzero(self.task_of == task)) for task, name in enumerate(self.tasks) if task not in small]
        merged = np.flatnonzero(np.isin(self.task_of, small))
        return [*alone, (" + ".join(self.tasks[task] for task in small), merged)] if small else alone

    @property
    def epoch_steps(self) -> int:
        return sum(-(-len(rows) // self.batch) for _, rows in self.groups)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch, in order; each a row-number array of at most `batch`."""
        batches = []
        for name, rows in self.groups:
            shuffled = rows[shuffle(len(rows), self.seed, f"{epoch} {name}")]
            batches += [shuffled[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        return [batches[i] for i in shuffle(len(batches), self.seed, f"{epoch} batches")]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Batches of (epoch, row) for all steps: the batch sampler of a DataLoader."""
        for epoch in range(math.ceil(self.steps / self.epoch_steps)):
            for batch in self.epoch(epoch)[: self.steps - epoch * self.epoch_steps]:
                yield [(epoch, int(row)) for row in batch]

    def __len__(self) -> int:
        return self.steps

    def describe(self) -> list[str]:
        """One line a group: rows, how often seen, what is left out."""
        lines = []
        for name, rows in self.groups:
            seen = self.steps / self.epoch_steps
            label = f"task {name}: " if name else ""
            lines.append(f"{label}{len(rows):,} rows in batches of {min(self.batch, len(rows)):,}, each seen {seen:.3g} times")
        return lines

    def seen(self) -> np.ndarray:
        """How many times each row stands in the plan (rows,)."""
        whole, rest = divmod(self.steps, self.epoch_steps)
        seen = np.full(self.rows, whole)
        for batch in self.epoch(whole)[:rest]:
            seen[batch] += 1
        return seen


def plan(tasks: Sequence[str | None], *, batch: int, seed: int, epochs: float | None, steps: int | None) -> Plan:
    """The plan of a run of `steps` batches, or of `epochs` passes over the rows."""
    names = {name: number for number, name in enumerate(dict.fromkeys(name or "" for name in tasks))}
    task_of = np.array([names[name or ""] for name in tasks], np.int64)
    whole = Plan(tuple(names), task_of, batch, seed, 0)
    return Plan(tuple(names), task_of, batch, seed, steps or math.ceil((epochs or 1) * whole.epoch_steps))


def shuffle(size: int, seed: int, key: str) -> np.ndarray:
    """A random order of 0 … size-1 that depends on seed and key alone, on every numpy version."""
    start = np.uint64(next(draw.numbers(seed, key)))
    with np.errstate(over="ignore"):
        z = start + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # splitmix64
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.argsort(z, kind="stable")
