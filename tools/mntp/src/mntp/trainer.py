"""The Trainer, led by the plan (fletching.train.trainer), with the step of MNTP: micro-batches whose losses are divided
by the masked tokens of the whole step, over all ranks."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from transformers import TrainingArguments

from fletching.train.distributed import process_group
from fletching.train.trainer import PlannedTrainer, TrainingSetup
from mntp.objective import NOT_ASKED, Micro, Objective, masked, micro_batches, moved


class MntpTrainer(PlannedTrainer):
    """One run. budget: tokens of a micro-batch."""

    def __init__(
        self, setup: TrainingSetup, *, objective: Objective, args: TrainingArguments, budget: int
    ) -> None:
        self.objective: Objective = objective
        self.budget = budget
        super().__init__(setup, model=objective, args=args)

    def rows_and_tokens(self, inputs: dict[str, Any]) -> tuple[list[int], int]:
        return inputs["rows"].tolist(), len(inputs["ids"])

    def probe_output(self) -> torch.Tensor:
        four = torch.arange(4, device=self.accelerator.device)[None]
        asked = torch.where(four == 1, four, NOT_ASKED)
        return self.objective(
            Micro(torch.ones_like(four), asked, torch.zeros_like(four), four)
        ).loss

    def step_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any
    ) -> torch.Tensor:
        model.train()
        return backward(self.objective, model, inputs, self.budget, self.accelerator.device)


class Same:
    """A data set whose rows are their own numbers: blocks come from the plan, texts from the collator."""

    def __getitem__(self, item: Any) -> Any:
        return item


def backward(
    objective: Objective, model: Any, batch: dict[str, Any], budget: int, device: torch.device
) -> torch.Tensor:
    """Add the gradient of the global batch's mean loss to the parameters. model: the objective, wrapped or not.

    Every rank has the whole batch, so each knows N, the masked tokens of all. The mean over ranks of what is
    returned is the loss; DDP and FSDP take the mean of gradients too, hence the factor.
    """
    parts = micro_batches(
        batch, budget, objective.pad_id, rank=process_group.rank(), ranks=process_group.world_size()
    )
    weight = process_group.world_size() / max(masked(batch), 1)
    value = torch.zeros((), device=device)
    for number, part in enumerate(parts):
        silent = number < len(parts) - 1 and hasattr(model, "no_sync")
        with model.no_sync() if silent else contextlib.nullcontext():
            loss = model(moved(part, device)).loss * weight
            loss.backward()
        value = value + loss.detach()
    return value
