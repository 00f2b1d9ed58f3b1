"""The loss of a global batch as a module: token ids and targets in, one scalar out.

Of several processes each embeds its part of the micro-batches. The vectors of all are gathered on
every rank, which takes the loss of the whole batch and sends its gradient through its own part.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

from fletching.train.distributed import process_group
from fletching_distill.losses import DistillLoss
from fletching_distill.student import Student
from fletching_distill.text_dataset import TextDataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD_TO = 8  # the width of a micro-batch is a multiple of this


class DistillCollator:
    """Numbers of texts to tensors.

    input_ids (tokens,): text after text · lengths (B,) · targets (B, T) · rows (B,)
    """

    def __init__(
        self, texts: TextDataset, targets: npt.NDArray[np.float16], student: Student
    ) -> None:
        self.texts, self.targets, self.student = texts, targets, student

    def __call__(self, numbers: list[int]) -> dict[str, Tensor]:
        """The tensors of a batch."""
        texts = [self.texts[number] for number in numbers]
        prompted = [text.prompted(self.student.prompts) for text in texts]
        lengths = [self.student.lengths[text.role] for text in texts]
        tokens = self.student.tokenize(prompted, lengths)
        input_ids = [token for ids in tokens for token in ids]
        return {
            "input_ids": torch.tensor(input_ids, dtype=torch.long),
            "lengths": torch.tensor([len(ids) for ids in tokens], dtype=torch.long),
            "targets": torch.from_numpy(self.targets[numbers]).float(),
            "rows": torch.tensor(numbers),
        }


class DistillObjective(nn.Module):
    """Embeds by micro-batches, then takes the loss over the whole batch.

    batch_tokens: tokens of one micro-batch, padding included.
    keep_tokens: activations of so many tokens stay in memory; those of the others are recomputed
    in the backward pass, under the same random numbers.
    """

    def __init__(
        self, student: Student, loss: DistillLoss, *, batch_tokens: int, keep_tokens: int
    ) -> None:
        super().__init__()
        self.student, self.loss, self.model = student, loss, student.model
        self.batch_tokens, self.keep_tokens = batch_tokens, keep_tokens
        self.losses: dict[str, Tensor] = {}  # of the last batch, by name

    def forward(
        self, input_ids: Tensor, lengths: Tensor, targets: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch as the collator makes it."""
        total, self.losses = self.loss(self.embed(input_ids, lengths), targets)
        # DDP takes the mean of the ranks' gradients. Where each rank has a part of the batch, the
        # gradient is their sum: the gradient is scaled, the value is not.
        scale = 1 if self.student.is_static else process_group.world_size()
        return total.detach() + (total - total.detach()) * scale

    def embed(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of the texts, float32 (B, D), not normalised."""
        starts = lengths.cumsum(0) - lengths
        if self.student.is_static:  # so cheap that every rank embeds all
            return self._vectors({"input_ids": input_ids, "offsets": starts})
        parts, is_idle = parts_of_rank(micro_batches(lengths, self.batch_tokens))
        vectors = torch.cat(self._embed_parts(parts, input_ids, starts=starts, lengths=lengths))
        numbers = torch.cat(parts)
        if process_group.world_size() == 1:
            return vectors[numbers.argsort()]
        return gather_vectors(vectors, numbers, texts=len(lengths), is_idle=is_idle)

    def _embed_parts(
        self, parts: list[Tensor], input_ids: Tensor, *, starts: Tensor, lengths: Tensor
    ) -> list[Tensor]:
        """Vectors of each micro-batch, with activations kept or to be recomputed."""
        tokens_so_far = 0
        vectors: list[Tensor] = []
        for part in parts:
            tokens_so_far += len(part) * int(lengths[part].max())
            recomputes = tokens_so_far > self.keep_tokens and torch.is_grad_enabled()
            padded = pad(
                input_ids,
                self.student.tokenizer,
                starts=starts[part],
                lengths=lengths[part],
            )
            if recomputes:
                vectors.append(checkpoint(self._embed_padded, *padded, use_reentrant=False))
            else:
                vectors.append(self._embed_padded(*padded))
        return vectors

    def _embed_padded(self, ids: Tensor, mask: Tensor) -> Tensor:
        dtype = self.student.autocast
        with torch.autocast(ids.device.type, dtype) if dtype else nullcontext():
            return self._vectors({"input_ids": ids, "attention_mask": mask, "modality": "text"})

    def _vectors(self, features: dict[str, Any]) -> Tensor:
        output: dict[str, Tensor] = self.model(features)
        return output["sentence_embedding"].float()


def micro_batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Numbers of texts, longest first, in parts of at most `budget` tokens with padding."""
    order = lengths.argsort(descending=True, stable=True)
    parts, start = [], 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        rows = max(budget // padded_width(longest), 1)
        parts.append(order[start : start + rows])
        start += rows
    return parts


def padded_width(length: int) -> int:
    """The next multiple of PAD_TO.

    >>> padded_width(8), padded_width(9)
    (8, 16)
    """
    return -(-length // PAD_TO) * PAD_TO


def parts_of_rank(parts: list[Tensor]) -> tuple[list[Tensor], bool]:
    """(this rank's micro-batches, is it idle?).

    An idle rank embeds one text, since DDP waits for every rank.
    """
    selected = parts[process_group.rank() :: process_group.world_size()]
    if selected:
        return selected, False
    return [parts[0][:1]], True


def gather_vectors(vectors: Tensor, numbers: Tensor, *, texts: int, is_idle: bool) -> Tensor:
    """The vectors (texts, D) of all ranks, on every rank.

    vectors: (n, D) of this rank, of the texts with these numbers (n,); the gradient goes to them.
    Those of an idle rank are left out, and their gradient is zero.
    """
    with torch.no_grad():
        gathered = vectors.new_zeros(texts, vectors.shape[1])
        if not is_idle:
            gathered[numbers] = vectors
        dist.all_reduce(gathered)  # each row is zero on all ranks but one
    if is_idle:
        return gathered + vectors.sum() * 0
    return gathered.index_copy(0, numbers, vectors)


def pad(
    input_ids: Tensor, tokenizer: PreTrainedTokenizerBase, *, starts: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """(ids, attention mask), both (n, width), of the texts that begin at `starts`."""
    counts = lengths[:, None]
    width = padded_width(int(counts.max()))
    columns = torch.arange(width, device=input_ids.device).expand(len(lengths), width)
    # The position of each column within its text; negative or too large in the padding.
    positions = columns - (width - counts) if tokenizer.padding_side == "left" else columns
    mask = (positions >= 0) & (positions < counts)
    tokens = (starts[:, None] + positions).clamp(0, len(input_ids) - 1)
    pad_id: Any = tokenizer.pad_token_id or 0
    return torch.where(mask, input_ids[tokens], pad_id), mask.long()
