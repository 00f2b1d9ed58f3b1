"""The loss of masked next-token prediction (BehnamGhader et al. 2024): the state before a masked token predicts it.

  L = −1/N Σ log p(xᵢ | hᵢ₋₁)     over the N masked tokens of the whole step

The head multiplies the states of masked tokens alone: at one masked token in five, a fifth of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mntp import attention
from mntp.block_plan import Block
from mntp.masking import Masking
from mntp.token_store import Pieces

NOT_ASKED = -100


class Sums(NamedTuple):
    """Over masked tokens: the sum of their losses, how many were predicted right, how many were asked for."""

    loss: Tensor
    correct: Tensor
    asked: int


class Micro(NamedTuple):
    """Blocks side by side, (rows, tokens) each: labels hold NOT_ASKED where nothing is predicted; texts number the
    pieces of a row, −1 is padding; positions start anew with each piece."""

    ids: Tensor
    labels: Tensor
    texts: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Collator:
    """Blocks of a global batch to flat tensors.

    ids, targets (tokens,) · sizes (pieces,) tokens of each piece · blocks (pieces,) the block that it stands in
    """

    pieces: Pieces
    masking: Masking

    def __call__(self, batch: list[tuple[int | str, Block]]) -> dict[str, Tensor]:
        ids, labels, sizes, blocks = [], [], [], []
        for number, (epoch, block) in enumerate(batch):
            for piece in block:
                whole = self.pieces[piece]
                masked, target = self.masking.apply(whole, int(self.pieces.first[piece]), epoch)
                ids.append(masked)
                labels.append(np.where(target, whole, NOT_ASKED))
                sizes.append(len(whole))
                blocks.append(number)
        return {
            "ids": torch.from_numpy(np.concatenate(ids)),
            "targets": torch.from_numpy(np.concatenate(labels)),
            "sizes": torch.tensor(sizes),
            "blocks": torch.tensor(blocks),
        }


class Objective(nn.Module):
    """Sums of the loss over one micro-batch. network: a decoder with its head; padding stands at the right."""

    def __init__(
        self, network: Any, *, autocast: torch.dtype | None = None, pad_id: int = 0
    ) -> None:
        super().__init__()
        self.network, self.autocast, self.pad_id = network, autocast, pad_id

    def forward(self, micro: Micro) -> Sums:
        before = torch.zeros_like(micro.labels, dtype=torch.bool)  # (rows, tokens)
        before[:, :-1] = micro.labels[:, 1:] != NOT_ASKED
        wanted = micro.labels[micro.labels != NOT_ASKED]  # (masked,)
        with (
            torch.autocast(
                micro.ids.device.type, self.autocast or torch.float32, enabled=bool(self.autocast)
            ),
            self._only(before),
        ):
            logits = self.network(**self._inputs(micro)).logits[0]  # (masked, vocabulary)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return Sums(
            F.cross_entropy(logits, wanted, reduction="sum"),
            (logits.argmax(-1) == wanted).sum(),
            len(wanted),
        )

    def _inputs(self, micro: Micro) -> dict[str, Any]:
        inputs = {"input_ids": micro.ids, "use_cache": False}
        if bool((micro.texts > 0).any()):
            return inputs | {
                "attention_mask": attention.block_mask(self.network, micro.texts),
                "position_ids": micro.positions,
            }
        return inputs | {"attention_mask": (micro.texts >= 0).long()}

    @contextmanager
    def _only(self, rows: Tensor) -> Iterator[None]:
        """The head sees these states alone, (1, masked, width). What a model does behind its head stays its own."""

        def choose(head: Any, args: Any) -> Any:
            return (args[0][rows][None],)

        hook = self.network.get_output_embeddings().register_forward_pre_hook(choose)
        try:
            yield
        finally:
            hook.remove()


def micro_batches(
    batch: dict[str, Tensor], budget: int, pad_id: int, *, rank: int = 0, ranks: int = 1
) -> list[Micro]:
    """This process's blocks, of similar lengths together, `budget` tokens with their padding at most (or one block).

    All ranks get the same number: where they are sharded, every pass is a collective. Ranks that have fewer get copies
    of the shortest block in which nothing is masked.
    """
    blocks = int(batch["blocks"][-1]) + 1
    lengths = torch.zeros(blocks, dtype=torch.long).index_add_(0, batch["blocks"], batch["sizes"])
    order = lengths.argsort(stable=True).tolist()
    shares = [_groups(order[number::ranks], lengths.tolist(), budget) for number in range(ranks)]
    starts = (lengths.cumsum(0) - lengths).tolist()
    made = [_padded(batch, group, starts, lengths.tolist(), pad_id) for group in shares[rank]]
    idle = _padded(batch, order[:1], starts, lengths.tolist(), pad_id)
    idle = idle._replace(labels=torch.full_like(idle.labels, NOT_ASKED))
    return made + [idle] * (max(map(len, shares)) - len(made))


def _groups(order: list[int], lengths: list[int], budget: int) -> list[list[int]]:
    """Blocks that go through the model together. order: by rising length, so that the newest is the longest of its group."""
    groups: list[list[int]] = []
    for block in order:
        if groups and (len(groups[-1]) + 1) * lengths[block] <= budget:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def _padded(
    batch: dict[str, Tensor], group: list[int], starts: list[int], lengths: list[int], pad_id: int
) -> Micro:
    shape = (len(group), max(lengths[block] for block in group))
    made = [torch.full(shape, fill) for fill in (pad_id, NOT_ASKED, -1, 0)]
    for row, block in enumerate(group):
        sizes = batch["sizes"][batch["blocks"] == block]
        span = slice(starts[block], starts[block] + lengths[block])
        texts = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        positions = torch.arange(lengths[block]) - torch.repeat_interleave(
            sizes.cumsum(0) - sizes, sizes
        )
        for tensor, values in zip(
            made, (batch["ids"][span], batch["targets"][span], texts, positions)
        ):
            tensor[row, : lengths[block]] = values
    return Micro(*made)


def masked(batch: dict[str, Tensor]) -> int:
    """N: the masked tokens of a global batch."""
    return int((batch["targets"] != NOT_ASKED).sum())


def moved(micro: Micro, device: torch.device) -> Micro:
    return Micro(*(tensor.to(device) for tensor in micro))
