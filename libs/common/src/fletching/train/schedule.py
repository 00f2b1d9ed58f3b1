"""The learning rate of each step, as a factor of the peak rate."""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["linear", "cosine", "constant"]


def learning_rate_factor(step: int, *, steps: int, warmup: int, kind: Kind = "linear") -> float:
    """The factor at step 0 … steps-1: a linear warmup to 1, then the decay of `kind`.

    No step is wasted: neither the first nor the last factor is zero.

    >>> [learning_rate_factor(step, steps=6, warmup=2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    if kind == "linear":
        return max(1 - progress, 0.0)
    if kind == "cosine":
        return (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return 1.0
