"""The time of a step, by that of one real micro-batch: for --dry-run."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from mntp.objective import PADDING, MntpObjective, PaddedBlocks, masked_count

PASSES = 2  # the first one also warms up


def seconds_of_step(
    batch: dict[str, Tensor],
    parts: Sequence[PaddedBlocks],
    objective: MntpObjective,
    *,
    device: torch.device,
) -> float:
    """Seconds of a step over the micro-batches `parts` of a batch, by the tokens of the middle one.

    Gradients are left in the weights: nothing is trained after it.
    """
    blocks = parts[len(parts) // 2]
    count = max(masked_count(batch), 1)
    seconds = min(_time_pass(objective, blocks.to(device), count) for _ in range(PASSES))
    tokens = int((blocks.texts != PADDING).sum())
    return seconds * len(batch["ids"]) / tokens


def _time_pass(objective: MntpObjective, blocks: PaddedBlocks, count: int) -> float:
    """Seconds of one forward and backward pass."""
    start = time.monotonic()
    loss = objective(blocks).loss
    (loss / count).backward()
    return time.monotonic() - start
