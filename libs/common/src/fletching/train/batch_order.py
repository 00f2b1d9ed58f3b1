"""The order of the rows: global batches as a pure function of (rows, batch, seed, epoch).

Needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fletching import seeded_random

RowNumbers = npt.NDArray[np.int64]
RandomBits = npt.NDArray[np.uint64]

# splitmix64 (Steele et al. 2014): the increment of its counter, the two multipliers of its
# mixer.
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
FIRST_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
SECOND_MULTIPLIER = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """Batches of row numbers for `steps` steps: the batch sampler of a DataLoader.

    Every epoch has every row once, dealt out evenly; the last epoch may be cut short.
    """

    rows: int
    batch: int
    seed: int
    steps: int

    @property
    def epoch_steps(self) -> int:
        """Batches in one epoch."""
        return -(-self.rows // self.batch)

    def epoch(self, epoch: int) -> list[RowNumbers]:
        """All batches of one epoch."""
        rows = random_permutation(self.rows, self.seed, str(epoch))
        return deal(rows, self.epoch_steps)

    def __iter__(self) -> Iterator[list[int]]:
        epochs = math.ceil(self.steps / self.epoch_steps)
        for epoch in range(epochs):
            remaining_steps = self.steps - epoch * self.epoch_steps
            for batch in self.epoch(epoch)[:remaining_steps]:
                yield batch.tolist()

    def __len__(self) -> int:
        return self.steps

    def row_counts(self) -> RowNumbers:
        """How many of the batches each row is in, (rows,)."""
        whole_epochs, remaining_steps = divmod(self.steps, self.epoch_steps)
        counts = np.full(self.rows, whole_epochs)
        for batch in self.epoch(whole_epochs)[:remaining_steps]:
            counts[batch] += 1
        return counts


def plan_batches(
    rows: int, *, batch: int, seed: int, epochs: float | None, steps: int | None
) -> BatchOrder:
    """The order of a run of `steps` batches, or of `epochs` (1) passes over the rows."""
    epoch_steps = -(-rows // batch)
    return BatchOrder(
        rows=rows,
        batch=batch,
        seed=seed,
        steps=steps or math.ceil((epochs or 1) * epoch_steps),
    )


def deal(rows: RowNumbers, batches: int) -> list[RowNumbers]:
    """Rows (n, …) in order, in batches whose sizes differ by one at most.

    A batch of what is left over would be smaller, and one of a single row has no negatives.

    >>> [batch.tolist() for batch in deal(np.arange(7), 3)]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    return np.array_split(rows, batches)


def random_permutation(size: int, seed: int, key: str) -> RowNumbers:
    """0 … size-1 in an order that depends on seed and key alone, on every numpy version."""
    bits = random_bits(seed, key, np.arange(size, dtype=np.uint64))
    return np.argsort(bits, kind="stable")


def random_bits(seed: int, key: str, counters: npt.NDArray[np.integer]) -> RandomBits:
    """64 random bits for each counter (n,), by splitmix64 (Steele et al. 2014)."""
    start = np.uint64(next(seeded_random.numbers(seed, key)))
    with np.errstate(over="ignore"):
        bits = start + (counters.astype(np.uint64) + np.uint64(1)) * GOLDEN_GAMMA
        bits = (bits ^ (bits >> np.uint64(30))) * FIRST_MULTIPLIER
        bits = (bits ^ (bits >> np.uint64(27))) * SECOND_MULTIPLIER
        return bits ^ (bits >> np.uint64(31))
