"""Which pieces of text share a block, and which blocks a global batch.

A pure function of (sizes of the pieces, length, batch, seed, epoch): it depends neither on
processes nor on micro-batches nor on resumes.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fletching.train.batch_order import random_permutation

WINDOW = 4096  # pieces that are packed together, so that the order of an epoch stays random
Block = tuple[int, ...]  # the numbers of its pieces


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """Global batches of `batch` blocks for `steps` steps: the batch sampler of a DataLoader.

    sizes: tokens of each piece, (pieces,).
    packed: a block holds several pieces of `length` tokens together; else one piece.

    Each epoch has every piece exactly once; its last batch may be smaller, and the last epoch may
    be cut short.
    """

    sizes: npt.NDArray[np.int32]
    length: int
    batch: int
    seed: int
    steps: int
    packed: bool = True

    def blocks(self, epoch: int) -> list[Block]:
        """All blocks of an epoch, in order."""
        order = random_permutation(len(self.sizes), self.seed, f"{epoch} pieces")
        if not self.packed:
            return [(int(piece),) for piece in order]
        blocks: list[Block] = []
        for start in range(0, len(order), WINDOW):
            window = order[start : start + WINDOW]
            packed = pack(window.tolist(), self.sizes[window].tolist(), self.length)
            # The fullest blocks come first: their order is shuffled again.
            shuffled = random_permutation(len(packed), self.seed, f"{epoch} blocks {start}")
            blocks += [packed[number] for number in shuffled]
        return blocks

    def epoch(self, epoch: int) -> list[list[Block]]:
        """The global batches of an epoch, in order."""
        blocks = self.blocks(epoch)
        return [blocks[start : start + self.batch] for start in range(0, len(blocks), self.batch)]

    def __iter__(self) -> Iterator[list[tuple[int, Block]]]:
        """Batches of (epoch, block) for all steps."""
        for epoch, batches, _ in self._epochs():
            for batch in batches:
                yield [(epoch, block) for block in batch]

    def __len__(self) -> int:
        return self.steps

    def piece_counts(self) -> npt.NDArray[np.int64]:
        """How many times the plan trains on each piece, (pieces,)."""
        counts = np.zeros(len(self.sizes), np.int64)
        for _, batches, is_whole in self._epochs():
            if is_whole:
                counts += 1
                continue
            for batch in batches:
                for block in batch:
                    counts[list(block)] += 1
        return counts

    def _epochs(self) -> Iterator[tuple[int, list[list[Block]], bool]]:
        """(epoch, its batches, are these all of them?) up to the last step."""
        steps_left, epoch = self.steps, 0
        while steps_left > 0:
            batches = self.epoch(epoch)
            yield epoch, batches[:steps_left], len(batches) <= steps_left
            steps_left -= len(batches)
            epoch += 1

    def steps_of(self, epochs: float) -> int:
        """The batches of so many passes over the pieces, rounded up."""
        whole = int(epochs)
        steps = sum(len(self.epoch(epoch)) for epoch in range(whole))
        fraction = epochs - whole
        if fraction:
            steps += math.ceil(fraction * len(self.epoch(whole)))
        return steps

    def for_epochs(self, epochs: float) -> BlockPlan:
        """The same plan for so many passes over the pieces."""
        return dataclasses.replace(self, steps=self.steps_of(epochs))


def pack(pieces: list[int], sizes: list[int], length: int) -> list[Block]:
    """Best fit, longest first: each piece joins the fullest block that has space for it.

    No piece is longer than `length`.

    >>> pack([0, 1, 2, 3], [5, 3, 4, 7], 9)
    [(3,), (0, 2), (1,)]
    """
    blocks: list[list[int]] = []
    open_blocks: list[tuple[int, int]] = []  # (space left, number of the block), ascending
    for position in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        size = sizes[position]
        fullest = bisect.bisect_left(open_blocks, (size, -1))
        if fullest < len(open_blocks):
            space, block = open_blocks.pop(fullest)
        else:
            space, block = length, len(blocks)
            blocks.append([])
        blocks[block].append(pieces[position])
        if space > size:
            bisect.insort(open_blocks, (space - size, block))
    return [tuple(block) for block in blocks]
