"""The Trainer, led by the order of the texts (fletching.train.trainer), which logs each loss."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import TrainingArguments

from fletching.train.trainer import PlannedTrainer, TrainingSetup
from fletching_distill.objective import DistillObjective


class DistillTrainer(PlannedTrainer):
    """One run."""

    def __init__(
        self, setup: TrainingSetup, *, objective: DistillObjective, args: TrainingArguments
    ) -> None:
        self.objective: DistillObjective = objective
        super().__init__(setup, model=objective, args=args)

    def rows_and_tokens(self, inputs: dict[str, Tensor]) -> tuple[list[int], int]:
        """(numbers of the texts in the batch, its tokens)."""
        return inputs["rows"].tolist(), len(inputs["input_ids"])

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss of a global batch."""
        loss: Tensor = model(**inputs)
        return loss

    def step_measures(self) -> dict[str, float]:
        """Each loss without its weight."""
        return {f"loss_{name}": float(value) for name, value in self.objective.losses.items()}
