"""How this machine computes a step: padding or packing, micro-batches, kept activations.

None of it is part of the result. Kept activations and recomputed ones give the same bits; packed
and padded batches differ by rounding, so the manifest says which of them a run has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from contrast_train.losses.registry import LOSSES
from contrast_train.model.backbone import Backbone
from contrast_train.options import Options
from contrast_train.training.objective import EmbeddingSettings
from fletching.encode import model as models
from fletching.encode.instruction_set import instruction_set
from fletching.errors import InputError
from fletching.train import agreement, block_dropout, hardware, packed_attention
from fletching.train.distributed import process_group

# Tokens of a micro-batch where --batch-tokens is absent.
GPU_BATCH_TOKENS = 32_768
PACKED_BATCH_TOKENS = 4096  # fewer sums of gradients, each over all weights
PADDED_BATCH_TOKENS = 1024

# Bytes that attention keeps of each score.
PACKED_SCORE_BYTES = 5  # the probability and its mask
PADDED_SCORE_BYTES = 17  # score, probability, mask as a number, product

SAME_MACHINES = "start them on machines of one kind, or name --device, --dtype and --batch-tokens"
FREE_SHARE = 0.5  # of the memory that is free beside the optimiser
OPTIMIZER_BYTES = 12  # for each trained weight: its gradient and AdamW's two moments


@dataclass(frozen=True, kw_only=True)
class StepChoice:
    """The settings of a step, and the words for them.

    gigabytes: of activations that are kept at most.
    """

    settings: EmbeddingSettings
    gigabytes: float
    device: torch.device

    @property
    def batches(self) -> str:
        """`packed` or `padded`."""
        return "padded" if self.settings.first_position is None else "packed"

    @property
    def common(self) -> dict[str, object]:
        """What all ranks must have: they cut a batch into the same micro-batches."""
        return {
            "device": self.device.type,
            "batch_tokens": self.settings.batch_tokens,
            "batches": self.batches,
            "dtype": models.dtype_name(self.settings.autocast),
        }

    def describe(self) -> str:
        """One line for the user."""
        settings = self.settings
        processor = instruction_set() if self.device.type == "cpu" else self.device.type
        return (
            f"{self.batches} micro-batches of {settings.batch_tokens:,} tokens, "
            f"{models.dtype_name(settings.autocast)} on {processor}; activations of "
            f"{settings.keep_tokens:,} tokens are kept (up to {self.gigabytes:.1f} GB), "
            "the rest is recomputed"
        )


def prepare(backbone: Backbone, options: Options, loss: str) -> int | None:
    """Give the model its dropout, and on a CPU the kernels of a step, in place.

    The first position id of packed batches; None: the model takes padded ones. Raises InputError
    where the loss is over two views and nothing tells them apart.
    """
    model = backbone.model
    first_position = None
    if options.dropout is not None:
        hardware.set_dropout(model, options.dropout)
    if LOSSES[loss].views and not hardware.has_dropout(model):
        raise InputError(
            "the model drops no activations, so the two views of a text would be equal",
            "pass --dropout 0.1",
        )
    if backbone.device.type == "cpu":
        hardware.prepare_cpu(model)
        block_dropout.replace_dropout(model)
        first_position = packed_attention.prepare(model)
    return first_position


def choose(backbone: Backbone, options: Options, first_position: int | None) -> StepChoice:
    """The settings of a step on this machine. first_position: of `prepare`.

    Raises InputError where the machines of a run choose different ones.
    """
    device, tokenizer = backbone.device, backbone.tokenizer
    is_packed = first_position is not None
    default_tokens = GPU_BATCH_TOKENS
    if device.type == "cpu":
        default_tokens = PACKED_BATCH_TOKENS if is_packed else PADDED_BATCH_TOKENS
    gigabytes = options.activations
    if gigabytes is None:
        gigabytes = _free_for_activations(backbone)
    is_sharded = options.fsdp or options.deepspeed is not None
    settings = EmbeddingSettings(
        batch_tokens=options.batch_tokens or default_tokens,
        keep_tokens=hardware.tokens_that_fit(
            gigabytes,
            backbone.model,
            longest=max(backbone.lengths.values()),
            score_bytes=PACKED_SCORE_BYTES if is_packed else PADDED_SCORE_BYTES,
        ),
        autocast=backbone.autocast,
        first_position=first_position,
        row_gradients=device.type == "cpu" and process_group.world_size() == 1 and not is_sharded,
        pad_id=tokenizer.pad_token_id or 0,
        left_padding=tokenizer.padding_side == "left",
    )
    choice = StepChoice(settings=settings, gigabytes=gigabytes, device=device)
    agreement.refuse_differences("step settings", choice.common, SAME_MACHINES)
    return choice


def _free_for_activations(backbone: Backbone) -> float:
    """A share of the memory that is free beside gradients and optimiser, in GB."""
    trained = sum(each.numel() for each in backbone.model.parameters() if each.requires_grad)
    free = hardware.free_gigabytes(backbone.device) - trained * OPTIMIZER_BYTES / 1e9
    return max(free, 0.0) * FREE_SHARE
