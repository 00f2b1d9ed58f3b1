"""The Trainer, led by the block plan (fletching.train.trainer), with the step of MNTP.

The losses of micro-batches are divided by the masked tokens of the whole step, over all ranks.
"""

from __future__ import annotations

import contextlib
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from fletching.train.distributed import process_group
from fletching.train.trainer import PlannedTrainer, TrainingSetup
from mntp.objective import (
    NOT_PREDICTED,
    MntpObjective,
    PaddedBlocks,
    masked_count,
    micro_batches,
)

Item = TypeVar("Item")


class MntpTrainer(PlannedTrainer):
    """One run. budget: tokens of a micro-batch."""

    def __init__(
        self,
        setup: TrainingSetup,
        *,
        objective: MntpObjective,
        args: TrainingArguments,
        budget: int,
    ) -> None:
        self.objective: MntpObjective = objective
        self.budget = budget
        super().__init__(setup, model=objective, args=args)

    def rows_and_tokens(self, inputs: dict[str, Tensor]) -> tuple[list[int], int]:
        """(rows of the input that the batch has texts of, its tokens)."""
        return inputs["rows"].tolist(), len(inputs["ids"])

    def probe_output(self) -> Tensor:
        """The loss of a block of four tokens: it depends on every parameter that trains."""
        four = torch.arange(4, device=self.accelerator.device)[None]
        blocks = PaddedBlocks(
            ids=torch.ones_like(four),
            labels=torch.where(four == 1, four, NOT_PREDICTED),
            texts=torch.zeros_like(four),
            positions=four,
        )
        loss: Tensor = self.objective(blocks).loss
        return loss

    def step_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """The mean loss of a global batch, whose gradient is then in the parameters."""
        model.train()
        return backward(
            self.objective,
            model,
            inputs,
            budget=self.budget,
            device=self.accelerator.device,
        )


class IdentityDataset(Dataset[Item]):
    """A data set of which an item is its key: the plan gives blocks, the collator their texts."""

    def __getitem__(self, item: Item) -> Item:
        return item


def backward(
    objective: MntpObjective,
    model: nn.Module,
    batch: dict[str, Tensor],
    *,
    budget: int,
    device: torch.device,
) -> Tensor:
    """Add the gradient of the global batch's mean loss to the parameters.

    model: the objective, wrapped or not. Every rank has the whole batch, so each knows N, the
    masked tokens of all. The mean over ranks of what is returned is the loss; DDP and FSDP take
    the mean of gradients too, hence the factor.
    """
    ranks = process_group.world_size()
    parts = micro_batches(batch, budget, objective.pad_id, rank=process_group.rank(), ranks=ranks)
    weight = ranks / max(masked_count(batch), 1)
    no_sync = getattr(model, "no_sync", contextlib.nullcontext)
    total = torch.zeros((), device=device)
    for number, blocks in enumerate(parts):
        is_last = number == len(parts) - 1
        # The gradients of all passes are reduced with the last one, if the wrapper can wait.
        with contextlib.nullcontext() if is_last else no_sync():
            loss = model(blocks.to(device)).loss * weight
            loss.backward()
        total = total + loss.detach()
    return total
