"""Loss and accuracy on the masked tokens of texts that are not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fletching.train.distributed import process_group
from mntp.objective import MntpCollator, MntpObjective, micro_batches

PIECES = 256  # that are collated together
EPOCH = "held-out"  # the key of the masks: each evaluation masks the same tokens


@dataclass(frozen=True)
class MaskedTokenEvaluator:
    """Evaluation of the model as it is. budget: tokens of a micro-batch."""

    collator: MntpCollator
    objective: MntpObjective
    budget: int
    device: torch.device

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """mntp_loss (nats per masked token) and mntp_accuracy (0 to 1); mlm_… of an encoder.

        Each rank computes a part of the micro-batches and returns the figures of all.
        """
        was_training = self.objective.training
        self.objective.eval()
        totals = torch.zeros(3, dtype=torch.float64)  # loss, correct, count
        pieces = len(self.collator.pieces)
        for start in range(0, pieces, PIECES):
            totals += self._totals(start, min(start + PIECES, pieces))
        if process_group.world_size() > 1:
            torch.distributed.all_reduce(totals)
        self.objective.train(was_training)
        loss, correct, count = totals.tolist()
        name = "mlm" if self.objective.in_place else "mntp"
        return {f"{name}_loss": loss / max(count, 1), f"{name}_accuracy": correct / max(count, 1)}

    def _totals(self, first: int, end: int) -> torch.Tensor:
        """(loss, correct, count) over this rank's part of the pieces, float64 (3,)."""
        batch = self.collator([(EPOCH, (piece,)) for piece in range(first, end)])
        parts = micro_batches(
            batch,
            self.budget,
            self.objective.pad_id,
            rank=process_group.rank(),
            ranks=process_group.world_size(),
        )
        totals = torch.zeros(3, dtype=torch.float64)
        for blocks in parts:
            sums = self.objective(blocks.to(self.device))
            values = [sums.loss.item(), sums.correct.item(), sums.tokens]
            totals += torch.tensor(values, dtype=torch.float64)
        return totals
