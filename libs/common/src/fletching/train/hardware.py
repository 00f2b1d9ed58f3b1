"""Settings of this machine that make training faster and change no number of the plan."""

from __future__ import annotations

import ctypes
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fletching import container
from fletching.encode import model as models
from fletching.errors import UsageError
from fletching.train.distributed import process_group

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Parameters of glibc's mallopt(3), and the values that keep freed memory in the process.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER_TRIM = 2**31 - 1
TOP_PAD_BYTES = 64 << 20

ACTIVATION_BYTES = 80  # for each layer and hidden unit of a token, measured

MEMINFO = Path("/proc/meminfo")
UNKNOWN_BYTES = 1 << 29  # of memory, where the system does not say what is free


def resolve_device(names: str | None) -> str:
    """This process's device: under torchrun each has its own GPU, or all compute on the CPU.

    names: the value of --device. Raises UsageError where there are fewer GPUs than processes.
    """
    devices = models.resolve_devices(names)
    if process_group.world_size() == 1 or not devices[0].startswith("cuda"):
        return devices[0]
    local_rank = process_group.local_rank()
    if local_rank >= len(devices):
        raise UsageError(
            f"process {local_rank + 1} of this machine has no GPU",
            f"torchrun --nproc-per-node {len(devices)}, or --device cpu",
        )
    return devices[local_rank]


def prepare_cpu(model: SentenceTransformer) -> None:
    """Use attention as plain products, and keep freed memory in the process.

    On CPUs the backward pass of fused attention takes 40 % of a MiniLM step in bfloat16 (torch
    2.13); as plain products it takes under a quarter of that.
    """
    transformer: Any = getattr(model[0], "model", None)
    if hasattr(transformer, "set_attn_implementation"):
        transformer.set_attn_implementation("eager")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Make glibc keep large blocks that are freed.

    It returns them to the system, which fills them with zeros again at the next step: 10 to 15
    % of the time.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
        libc.mallopt(M_TOP_PAD, TOP_PAD_BYTES)


def silence_libraries() -> None:
    """Drop DeepSpeed's warnings: it prints to stdout that there is no GPU."""
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set the dropout probability in every layer that has one."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        # Layers that keep the probability as a plain number.
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, probability)


def has_dropout(model: nn.Module) -> bool:
    """Does any layer drop activations while training?"""
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            return True
        probability = getattr(module, "attention_dropout", 0.0)
        if isinstance(probability, float) and probability > 0:
            return True
    return False


def tokens_that_fit(
    gigabytes: float, model: SentenceTransformer, *, longest: int = 0, score_bytes: int = 0
) -> int:
    """How many tokens' activations fit into so much memory, by the model's layers and width.

    longest: tokens of the longest texts. score_bytes: what attention keeps of each score.
    """
    transformer: Any = model[0]
    config = transformer.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)
    bytes_per_layer = ACTIVATION_BYTES * config.hidden_size + score_bytes * heads * longest
    bytes_per_token = max(config.num_hidden_layers, 1) * bytes_per_layer
    return int(gigabytes * 1e9 / bytes_per_token)


def free_gigabytes(device: torch.device) -> float:
    """Memory that this process may still take, in GB: of its GPU, or its share of the machine's.

    The limit of a container counts. Half a gigabyte where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 1e9
    free = min(_free_of_machine(), container.memory_left())
    return (free if free < math.inf else UNKNOWN_BYTES) / process_group.local_world_size() / 1e9


def _free_of_machine() -> float:
    available = _read_fields(MEMINFO).get("MemAvailable:")
    return math.inf if available is None else available * 1024


def _read_fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    return {name: int(number) for name, number, *_ in filter(None, words)}
