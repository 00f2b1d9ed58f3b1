"""The Trainer, led by the order of the texts (fletching.train.trainer), with the parts of the loss in its log."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

from distill.objective import Objective
from fletching.train.trainer import PlannedTrainer, TrainingSetup


class DistillTrainer(PlannedTrainer):
    """One run."""

    def __init__(
        self, setup: TrainingSetup, *, objective: Objective, args: TrainingArguments
    ) -> None:
        self.objective: Objective = objective
        super().__init__(setup, model=objective, args=args)

    def rows_and_tokens(self, inputs: dict[str, Any]) -> tuple[list[int], int]:
        return inputs["rows"].tolist(), len(inputs["input_ids"])

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any
    ) -> torch.Tensor:
        return model(**inputs)

    def step_measures(self) -> dict[str, float]:
        return {f"loss_{name}": float(value) for name, value in self.objective.parts.items()}
