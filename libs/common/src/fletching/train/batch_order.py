"""The order of the rows: global batches as a pure function of (rows, batch, seed, epoch). Needs numpy alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fletching import seeded_random


@dataclass(frozen=True)
class BatchOrder:
    """Batches of row numbers for `steps` steps: the batch sampler of a DataLoader.

    Every row stands once in every epoch; its last batch may be smaller, and the last epoch may be cut short.
    """

    rows: int
    batch: int
    seed: int
    steps: int

    @property
    def epoch_steps(self) -> int:
        return -(-self.rows // self.batch)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        shuffled = random_permutation(self.rows, self.seed, str(epoch))
        return [shuffled[start : start + self.batch] for start in range(0, self.rows, self.batch)]

    def __iter__(self) -> Iterator[list[int]]:
        for epoch in range(math.ceil(self.steps / self.epoch_steps)):
            for batch in self.epoch(epoch)[: self.steps - epoch * self.epoch_steps]:
                yield batch.tolist()

    def __len__(self) -> int:
        return self.steps

    def row_counts(self) -> np.ndarray:
        """How many times each row stands in the plan (rows,)."""
        whole, rest = divmod(self.steps, self.epoch_steps)
        seen = np.full(self.rows, whole)
        for batch in self.epoch(whole)[:rest]:
            seen[batch] += 1
        return seen


def plan_batches(rows: int, *, batch: int, seed: int, epochs: float | None, steps: int | None) -> BatchOrder:
    """The order of a run of `steps` batches, or of `epochs` passes over the rows."""
    whole = BatchOrder(rows, batch, seed, 0)
    return BatchOrder(rows, batch, seed, steps or math.ceil((epochs or 1) * whole.epoch_steps))


def random_permutation(size: int, seed: int, key: str) -> np.ndarray:
    """A random order of 0 … size-1 that depends on seed and key alone, on every numpy version."""
    return np.argsort(random_bits(seed, key, np.arange(size, dtype=np.uint64)), kind="stable")


def random_bits(seed: int, key: str, places: np.ndarray) -> np.ndarray:
    """64 random bits for each place (n,), by splitmix64 (Steele et al. 2014)."""
    start = np.uint64(next(seeded_random.numbers(seed, key)))
    with np.errstate(over="ignore"):
        z = start + (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
