"""The learning rate of each step, as a share of the highest one."""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["linear", "cosine", "constant"]


def learning_rate_factor(step: int, *, steps: int, warmup: int, kind: Kind = "linear") -> float:
    """The share at step 0 … steps-1. No step is wasted: neither the first nor the last one is zero.

    >>> [learning_rate_factor(step, steps=6, warmup=2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if kind == "linear":
        return max(1 - done, 0.0)
    return (1 + math.cos(math.pi * min(done, 1.0))) / 2 if kind == "cosine" else 1.0
