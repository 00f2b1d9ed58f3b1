"""Which pieces of text stand in which block, and which blocks in which global batch.

A pure function of (sizes of the pieces, length, batch, seed, epoch): processes, micro-batches and stops have no part in it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fletching.train.batch_order import random_permutation

WINDOW = 4096  # pieces that are packed together, so that an epoch's order stays random
Block = tuple[int, ...]  # numbers of the pieces that stand in it


@dataclass(frozen=True)
class Plan:
    """Global batches of `batch` blocks for `steps` steps: the batch sampler of a DataLoader.

    Each piece stands in every epoch exactly once; an epoch's last batch may be smaller, the last epoch may be cut
    short. packed: a block holds pieces up to `length` tokens together; else one piece each.
    """

    sizes: np.ndarray
    length: int
    batch: int
    seed: int
    steps: int
    packed: bool = True

    def blocks(self, epoch: int) -> list[Block]:
        """All blocks of an epoch, in order."""
        order = random_permutation(len(self.sizes), self.seed, f"{epoch} pieces")
        if not self.packed:
            return [(int(number),) for number in order]
        found: list[Block] = []
        for start in range(0, len(order), WINDOW):
            window = order[start : start + WINDOW]
            packed = pack(window.tolist(), self.sizes[window].tolist(), self.length)
            # The fullest blocks were made first: their order is mixed again.
            found += [packed[i] for i in random_permutation(len(packed), self.seed, f"{epoch} blocks {start}")]
        return found

    def epoch(self, epoch: int) -> list[list[Block]]:
        blocks = self.blocks(epoch)
        return [blocks[start : start + self.batch] for start in range(0, len(blocks), self.batch)]

    def __iter__(self) -> Iterator[list[tuple[int, Block]]]:
        """Batches of (epoch, block) for all steps."""
        left, epoch = self.steps, 0
        while left > 0:
            batches = self.epoch(epoch)[:left]
            yield from ([(epoch, block) for block in batch] for batch in batches)
            left, epoch = left - len(batches), epoch + 1

    def __len__(self) -> int:
        return self.steps

    def seen(self) -> np.ndarray:
        """How many times each piece stands in the plan (pieces,)."""
        seen = np.zeros(len(self.sizes), np.int64)
        left, epoch = self.steps, 0
        while left > 0:
            batches = self.epoch(epoch)
            if len(batches) <= left:
                seen += 1
            else:
                seen[
                    [number for batch in batches[:left] for block in batch for number in block]
                ] += 1
            left, epoch = left - len(batches), epoch + 1
        return seen


def plan(
    sizes: np.ndarray,
    *,
    length: int,
    batch: int,
    seed: int,
    packed: bool,
    epochs: float | None,
    steps: int,
) -> Plan:
    """The plan of `steps` batches, or of `epochs` passes over the pieces."""
    whole = Plan(sizes, length, batch, seed, steps, packed)
    if epochs is None:
        return whole
    passes, rest = divmod(epochs, 1)
    counted = sum(len(whole.epoch(number)) for number in range(int(passes)))
    counted += int(np.ceil(rest * len(whole.epoch(int(passes))))) if rest else 0
    return Plan(sizes, length, batch, seed, counted, packed)


def pack(numbers: list[int], sizes: list[int], length: int) -> list[Block]:
    """Best fit, longest first: each piece goes where it leaves the least room. No piece is longer than `length`.

    >>> pack([0, 1, 2, 3], [5, 3, 4, 7], 9)
    [(3,), (0, 2), (1,)]
    """
    blocks: list[list[int]] = []
    open_blocks: list[tuple[int, int]] = []  # (room left, number of the block), ascending
    for place in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        at = bisect.bisect_left(open_blocks, (sizes[place], -1))
        if at < len(open_blocks):
            room, block = open_blocks.pop(at)
        else:
            room, block = length, len(blocks)
            blocks.append([])
        blocks[block].append(numbers[place])
        if room > sizes[place]:
            bisect.insort(open_blocks, (room - sizes[place], block))
    return [tuple(block) for block in blocks]
