"""Loss and accuracy on the masked tokens of texts that are not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fletching.train.distributed import process_group
from mntp.objective import Collator, Objective, micro_batches, moved

PIECES = 256  # that are collated together
EPOCH = "held-out"  # the same tokens are masked each time


@dataclass(frozen=True)
class HeldOut:
    collator: Collator
    objective: Objective
    budget: int
    device: torch.device

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """mntp_loss (nats a masked token) and mntp_accuracy (0 to 1); every rank computes a share and gets the whole."""
        was_training = self.objective.training
        self.objective.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        pieces = len(self.collator.pieces)
        for start in range(0, pieces, PIECES):
            batch = self.collator(
                [(EPOCH, (number,)) for number in range(start, min(start + PIECES, pieces))]
            )
            for micro in micro_batches(
                batch,
                self.budget,
                self.objective.pad_id,
                rank=process_group.rank(),
                ranks=process_group.world_size(),
            ):
                found = self.objective(moved(micro, self.device))
                sums += torch.tensor(
                    [found.loss.item(), found.correct.item(), found.asked], dtype=torch.float64
                )
        if process_group.world_size() > 1:
            torch.distributed.all_reduce(sums)
        self.objective.train(was_training)
        loss, correct, count = sums.tolist()
        return {"mntp_loss": loss / max(count, 1), "mntp_accuracy": correct / max(count, 1)}
