"""Detects that all vectors become alike: the loss then stops falling, and retrieval is
chance.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

LIMIT = 0.98  # mean cosine between different texts
PATIENCE = 20  # steps in a row; models that were never trained begin this way and leave it soon


def mean_cosine(vectors: Tensor) -> Tensor:
    """Mean cosine () over all pairs of different rows of (n, D), without the n x n matrix."""
    unit = functional.normalize(vectors.float(), dim=1)
    total = unit.sum(0)
    pairs = max(len(unit) * (len(unit) - 1), 1)
    return (total @ total - unit.square().sum()) / pairs


class CollapseMonitor:
    """Warns once, when `PATIENCE` steps in a row were above `LIMIT`."""

    def __init__(self) -> None:
        self.steps_above = 0

    def update(self, cosine: float) -> str | None:
        """Take the mean cosine of a step; the warning, at the step that it is due."""
        self.steps_above = self.steps_above + 1 if cosine > LIMIT else 0
        if self.steps_above != PATIENCE:
            return None
        return (
            f"the vectors are all alike: mean cosine {cosine:.3f} between different texts, "
            f"{PATIENCE} steps in a row; try a lower --lr, a longer --warmup, a higher "
            "--temperature or a larger --batch"
        )
