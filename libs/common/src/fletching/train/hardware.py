"""Settings of this machine that make training faster and change no number of the plan."""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Any

from torch import nn

from fletching.encode import model as models
from fletching.errors import UsageError
from fletching.train.distributed import process_group

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # mallopt(3)


def resolve_device(wanted: str | None) -> str:
    """This process's device: under torchrun each has a GPU of its own, or all compute on the CPU."""
    names = models.resolve_devices(wanted)
    if process_group.world_size() == 1 or not names[0].startswith("cuda"):
        return names[0]
    if process_group.local_rank() >= len(names):
        raise UsageError(
            f"process {process_group.local_rank() + 1} of this machine has no GPU",
            f"torchrun --nproc-per-node {len(names)}, or --device cpu",
        )
    return names[process_group.local_rank()]


def prepare_cpu(model: Any) -> None:
    """Attention as plain products, and memory that stays with the process.

    On CPUs the backward pass of fused attention takes 40 % of a MiniLM step in bfloat16 (torch 2.13); as
    plain products it takes under a quarter of that.
    """
    transformer: Any = getattr(model[0], "model", None)
    if hasattr(transformer, "set_attn_implementation"):
        transformer.set_attn_implementation("eager")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """glibc hands each large block back to the system, which then fills it with zeros again at the next step:
    10 to 15 % of the time."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
            libc.mallopt(M_TOP_PAD, 64 << 20)


def silence_libraries() -> None:
    """DeepSpeed, where it is installed, warns on stdout that there is no GPU."""
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)


def set_dropout(model: nn.Module, share: float) -> None:
    """The share of activations dropped while training, in every layer that drops any."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name in (
            "attention_dropout",
            "dropout",
        ):  # layers that keep the share as a plain number
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, share)


def has_dropout(model: nn.Module) -> bool:
    """Is any activation dropped while training?"""
    shares = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    shares += [getattr(module, "attention_dropout", 0.0) for module in model.modules()]
    return any(isinstance(share, float) and share > 0 for share in shares)


def tokens_that_fit(gigabytes: float, model: Any) -> int:
    """How many tokens' activations fit, by the model's layers and width (80 bytes a number, measured)."""
    config = model[0].model.config.get_text_config()
    return int(gigabytes * 1e9 / (80 * max(config.num_hidden_layers, 1) * config.hidden_size))
