"""The losses of masked tokens: of decoders (BehnamGhader et al. 2024) and of encoders.

  L = −1/N Σ log p(xᵢ | hᵢ₋₁)     MNTP, over the N masked tokens of the whole step
  L = −1/N Σ log p(xᵢ | hᵢ)       MLM (Devlin et al. 2019)

hᵢ is the state at the masked token, hᵢ₋₁ the one before it. The head multiplies these states
alone: at one masked token in five, a fifth of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mntp import attention
from mntp.block_plan import Block
from mntp.masking import TokenMasking
from mntp.token_store import TokenPieces

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NOT_PREDICTED = -100  # label of a token that is not masked
PADDING = -1  # number of the text that padding belongs to


class LossSums(NamedTuple):
    """Over masked tokens: the sum of their losses, how many were predicted right, their number."""

    loss: Tensor
    correct: Tensor
    tokens: int


class PaddedBlocks(NamedTuple):
    """Blocks of a micro-batch, padded at their right, (rows, tokens) each.

    labels: NOT_PREDICTED where nothing is masked. texts: the number of the piece within its block,
    or PADDING. positions: start anew with each piece.
    """

    ids: Tensor
    labels: Tensor
    texts: Tensor
    positions: Tensor

    def to(self, device: torch.device) -> PaddedBlocks:
        """The same on a device."""
        return PaddedBlocks(*(tensor.to(device) for tensor in self))


@dataclass(frozen=True)
class MntpCollator:
    """Blocks of a global batch to flat tensors, piece after piece.

    ids (tokens,): with masks · labels (tokens,) · sizes (pieces,): tokens of each piece ·
    blocks (pieces,): the number of its block
    """

    pieces: TokenPieces
    masking: TokenMasking

    def __call__(self, batch: Sequence[tuple[int | str, Block]]) -> dict[str, Tensor]:
        """The tensors of a batch of (epoch, block)."""
        ids, labels, sizes, blocks = [], [], [], []
        for number, (epoch, block) in enumerate(batch):
            for piece in block:
                original = self.pieces[piece]
                position = int(self.pieces.positions[piece])
                masked, is_target = self.masking.apply(original, position=position, epoch=epoch)
                ids.append(masked)
                labels.append(np.where(is_target, original, NOT_PREDICTED))
                sizes.append(len(original))
                blocks.append(number)
        return {
            "ids": torch.from_numpy(np.concatenate(ids)),
            "labels": torch.from_numpy(np.concatenate(labels)),
            "sizes": torch.tensor(sizes),
            "blocks": torch.tensor(blocks),
        }


class MntpObjective(nn.Module):
    """Sums of the loss over one micro-batch.

    network: a decoder with its head. autocast: number type of its products; None: as it is.
    in_place: predict a token from the state at its own place (MLM), for encoders.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        *,
        autocast: torch.dtype | None = None,
        pad_id: int = 0,
        in_place: bool = False,
    ) -> None:
        super().__init__()
        self.in_place = in_place
        self.network, self.autocast, self.pad_id = network, autocast, pad_id

    def forward(self, blocks: PaddedBlocks) -> LossSums:
        """The sums over the masked tokens of these blocks."""
        is_masked = blocks.labels != NOT_PREDICTED  # (rows, tokens)
        predicts = is_masked
        if not self.in_place:
            predicts = torch.zeros_like(is_masked)
            predicts[:, :-1] = is_masked[:, 1:]
        labels = blocks.labels[is_masked]  # (masked,)
        logits = self._logits(blocks, predicts)  # (masked, vocabulary)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(-1) == labels).sum()
        return LossSums(loss, correct, len(labels))

    def _logits(self, blocks: PaddedBlocks, selected: Tensor) -> Tensor:
        """Those of the selected states, (selected, vocabulary), float32 or wider."""
        autocast = torch.autocast(
            blocks.ids.device.type,
            self.autocast or torch.float32,
            enabled=self.autocast is not None,
        )
        with autocast, self._head_on(selected):
            logits: Tensor = self.network(**self._inputs(blocks)).logits[0]
        return logits if logits.dtype == torch.float64 else logits.float()

    def _inputs(self, blocks: PaddedBlocks) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": blocks.ids}
        if not self.in_place:
            inputs["use_cache"] = False
        has_packed_texts = bool((blocks.texts > 0).any())
        if has_packed_texts:
            inputs["attention_mask"] = attention.block_mask(self.network, blocks.texts)
            inputs["position_ids"] = blocks.positions
        else:
            inputs["attention_mask"] = (blocks.texts != PADDING).long()
        return inputs

    @contextmanager
    def _head_on(self, selected: Tensor) -> Iterator[None]:
        """Give the head the selected states alone, as (1, selected, width).

        What a model does after its head (scaling, soft caps) stays as it is.
        """

        def select(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            """Hook before the head."""
            return (args[0][selected][None],)

        network: Any = self.network
        hook = network.get_output_embeddings().register_forward_pre_hook(select)
        try:
            yield
        finally:
            hook.remove()


def micro_batches(
    batch: dict[str, Tensor], budget: int, pad_id: int, *, rank: int = 0, ranks: int = 1
) -> list[PaddedBlocks]:
    """This rank's blocks, similar lengths together, padded to at most `budget` tokens or one block.

    All ranks get the same number: where weights are sharded, every pass is a collective. Ranks
    that have fewer get copies of the shortest block in which nothing is masked.
    """
    spans = _block_spans(batch)
    lengths = torch.tensor([span.stop - span.start for span in spans])
    order: list[int] = lengths.argsort(stable=True).tolist()
    groups_of_rank = [
        _group(order[start::ranks], lengths.tolist(), budget) for start in range(ranks)
    ]
    padded = [_pad(batch, group, spans, pad_id=pad_id) for group in groups_of_rank[rank]]
    shortest = _pad(batch, order[:1], spans, pad_id=pad_id)
    idle = shortest._replace(labels=torch.full_like(shortest.labels, NOT_PREDICTED))
    passes = max(map(len, groups_of_rank))
    return padded + [idle] * (passes - len(padded))


def _block_spans(batch: dict[str, Tensor]) -> list[slice]:
    """Where the tokens of each block are in `ids`."""
    lengths = torch.bincount(batch["blocks"], weights=batch["sizes"].double()).long()
    ends = lengths.cumsum(0)
    starts = ends - lengths
    return [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist())]


def _group(order: list[int], lengths: list[int], budget: int) -> list[list[int]]:
    """Blocks that share a forward pass.

    order: by rising length, so that the newest block is the longest of its group.
    """
    groups: list[list[int]] = []
    for block in order:
        if groups and (len(groups[-1]) + 1) * lengths[block] <= budget:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def _pad(
    batch: dict[str, Tensor], group: list[int], spans: list[slice], *, pad_id: int
) -> PaddedBlocks:
    width = max(spans[block].stop - spans[block].start for block in group)
    shape = (len(group), width)
    padded = PaddedBlocks(
        ids=torch.full(shape, pad_id),
        labels=torch.full(shape, NOT_PREDICTED),
        texts=torch.full(shape, PADDING),
        positions=torch.zeros(shape, dtype=torch.long),
    )
    for row, block in enumerate(group):
        span = spans[block]
        length = span.stop - span.start
        sizes = batch["sizes"][batch["blocks"] == block]
        padded.ids[row, :length] = batch["ids"][span]
        padded.labels[row, :length] = batch["labels"][span]
        padded.texts[row, :length] = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        padded.positions[row, :length] = torch.cat([torch.arange(int(size)) for size in sizes])
    return padded


def masked_count(batch: dict[str, Tensor]) -> int:
    """N: the masked tokens of a global batch."""
    return int((batch["labels"] != NOT_PREDICTED).sum())
