"""Which of a run's weights are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Measures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ChosenWeights:
    """The weights that are now in the model.

    best_step: their training step; 0: the base's; None: nothing was evaluated, and they are the
    last. steps: optimiser steps that the run took. quality: held-out measures for the card, by
    model.
    """

    best_step: int | None
    steps: int
    quality: Mapping[str, Measures]

    @property
    def trained_steps(self) -> int:
        """The steps that these weights have seen."""
        return self.steps if self.best_step is None else self.best_step
