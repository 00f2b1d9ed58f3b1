"""The loss of a global batch as a module: token ids and targets in, one scalar out.

Of several processes each embeds its share of the micro-batches. The vectors of all meet on every rank, which takes the
whole loss and sends its gradient through its own share.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

from distill.losses import Mixture
from distill.student import Student
from distill.text_dataset import Texts
from fletching.train.distributed import process_group

PAD_TO = 8  # micro-batches are this many tokens wide, or a multiple


class Collator:
    """Numbers of texts to tensors: input_ids (tokens,) end to end · lengths (B,) · targets (B, T) · rows (B,)."""

    def __init__(self, texts: Texts, targets: Any, student: Student) -> None:
        self.texts, self.targets, self.student = texts, targets, student

    def __call__(self, numbers: list[int]) -> dict[str, Tensor]:
        texts = [self.texts[number] for number in numbers]
        prompted = [text.prompted(self.student.prompts) for text in texts]
        tokens = self.student.tokenize(
            prompted, [self.student.lengths[text.role] for text in texts]
        )
        return {
            "input_ids": torch.tensor([token for ids in tokens for token in ids], dtype=torch.long),
            "lengths": torch.tensor([len(ids) for ids in tokens], dtype=torch.long),
            "targets": torch.from_numpy(self.targets[numbers]).float(),
            "rows": torch.tensor(numbers),
        }


class Objective(nn.Module):
    """Embeds by micro-batches, then takes the loss over the whole batch.

    batch_tokens: tokens of one micro-batch, padding included. keep_tokens: activations of so many tokens stay in
    memory; those of the others are computed again on the way back, under the same random numbers.
    """

    def __init__(
        self, student: Student, loss: Mixture, *, batch_tokens: int, keep_tokens: int
    ) -> None:
        super().__init__()
        self.student, self.loss, self.model = student, loss, student.model
        self.batch_tokens, self.keep_tokens = batch_tokens, keep_tokens
        self.parts: dict[str, Tensor] = {}  # of the last batch

    def forward(
        self, input_ids: Tensor, lengths: Tensor, targets: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        total, self.parts = self.loss(self.embed(input_ids, lengths), targets)
        # DDP takes the mean of the ranks' gradients; that of the batch is the sum, where each rank has a share of it.
        shares = 1 if self.student.is_static else process_group.world_size()
        return total.detach() + (total - total.detach()) * shares

    def embed(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Vectors float32 (B, D), not normalised."""
        starts = lengths.cumsum(0) - lengths
        if self.student.is_static:  # so cheap that every rank embeds all
            return self.model({"input_ids": tokens, "offsets": starts})[
                "sentence_embedding"
            ].float()
        mine, idle = dealt(micro_batches(lengths, self.batch_tokens))
        kept, pieces = 0, []
        for part in mine:
            kept += len(part) * int(lengths[part].max())
            again = kept > self.keep_tokens and torch.is_grad_enabled()
            arguments = padded(tokens, starts[part], lengths[part], self.student.tokenizer)
            pieces.append(
                checkpoint(self._piece, *arguments, use_reentrant=False)
                if again
                else self._piece(*arguments)
            )
        if process_group.world_size() == 1:
            return torch.cat(pieces)[torch.cat(mine).argsort()]
        return everywhere(torch.cat(pieces), torch.cat(mine), len(lengths), idle)

    def _piece(self, ids: Tensor, mask: Tensor) -> Tensor:
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "modality": "text"}
        with (
            torch.autocast(ids.device.type, self.student.autocast)
            if self.student.autocast
            else nullcontext()
        ):
            return self.model(features)["sentence_embedding"].float()


def micro_batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Text numbers, longest first, cut where rows x width would pass the token budget."""
    order = lengths.argsort(descending=True, stable=True)
    parts, start = [], 0
    while start < len(order):
        width = -(-max(int(lengths[order[start]]), 1) // PAD_TO) * PAD_TO
        rows = max(budget // width, 1)
        parts.append(order[start : start + rows])
        start += rows
    return parts


def dealt(parts: list[Tensor]) -> tuple[list[Tensor], bool]:
    """(this rank's micro-batches, whether it has none). Who has none embeds one text, for DDP waits for every rank."""
    mine = parts[process_group.rank() :: process_group.world_size()]
    return (mine, False) if mine else ([parts[0][:1]], True)


def everywhere(own: Tensor, places: Tensor, texts: int, idle: bool) -> Tensor:
    """The vectors (texts, D) of all ranks, on every rank; gradients go to this rank's `own` (n, D), which stand in `places`.

    Of an idle rank nothing is taken, and its gradient is zero.
    """
    with torch.no_grad():
        whole = own.new_zeros(texts, own.shape[1])
        if not idle:
            whole[places] = own
        dist.all_reduce(whole)  # each row is zero on all ranks but one
    return whole + own.sum() * 0 if idle else whole.index_copy(0, places, own)


def padded(
    tokens: Tensor, starts: Tensor, lengths: Tensor, tokenizer: Any
) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both (n, width), of texts that begin at `starts`."""
    count = lengths[:, None]
    width = -(-int(count.max()) // PAD_TO) * PAD_TO
    place = torch.arange(width, device=tokens.device).expand(len(lengths), width)
    if tokenizer.padding_side == "left":
        place = place - (width - count)
    mask = (place >= 0) & (place < count)
    ids = torch.where(
        mask,
        tokens[(starts[:, None] + place).clamp(0, len(tokens) - 1)],
        tokenizer.pad_token_id or 0,
    )
    return ids, mask.long()
