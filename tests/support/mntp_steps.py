"""One training step of mntp on tiny decoders, in this process or in several that are sharded or not: its gradient."""

from __future__ import annotations

import os
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers as t
from decoders import GROUPED, HEADED, WINDOWED

from fletching.train.distributed import fsdp
from mntp import attention, lora
from mntp.block_plan import Plan
from mntp.masking import Masking
from mntp.objective import Collator, Objective
from mntp.trainer import backward

CONFIGS = {
    "llama": lambda: t.LlamaConfig(**HEADED),
    "qwen2": lambda: t.Qwen2Config(**GROUPED),
    "gemma2": lambda: t.Gemma2Config(
        **WINDOWED | dict(sliding_window=64), final_logit_softcapping=2.0
    ),  # a head with more than a product
    "cohere": lambda: t.CohereConfig(**GROUPED, logit_scale=0.3),
}


def network(name: str, kernel: str = "eager") -> Any:
    torch.manual_seed(1)
    model = (
        t.AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation=kernel)
        .double()
        .eval()
    )
    for parameter in model.parameters():  # wide enough that a wrong shift would show
        torch.nn.init.normal_(parameter, std=0.2)
    attention.turn(model)
    return model


class Numbers:
    """Pieces that are lists of numbers."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.first = np.array(sizes), np.cumsum([0, *sizes])

    def __getitem__(self, number: int) -> np.ndarray:
        return np.arange(self.first[number], self.first[number + 1]) % 290 + 5


def batch(packed: bool = True) -> dict[str, torch.Tensor]:
    pieces: Any = Numbers([9, 3, 16, 5, 7, 12, 2, 4, 1])
    blocks = Plan(pieces.sizes, 16, 9, 0, 1, packed).epoch(0)[0]
    return Collator(pieces, Masking(0.3, (0.8, 0.1), 99, 300, np.array([0, 1, 2]), 0))(
        [(0, block) for block in blocks]
    )


def flat(objective: torch.nn.Module) -> torch.Tensor:
    """The whole gradient, of all parameters that train."""
    each = ((torch.zeros_like(p) if p.grad is None else p.grad) for _, p in fsdp.trained_parameters(objective))
    return torch.cat([fsdp.full_tensor(gradient).flatten() for gradient in each])


def objective(kind: str) -> Objective:
    """Of kind full, or lora: then all but the adapters is frozen, in a number type of its own."""
    model = network("llama", "sdpa")
    if kind == "lora":
        model.requires_grad_(False)
        options = SimpleNamespace(
            lora_rank=4, lora_alpha=None, lora_dropout=0.0, lora_targets=(), seed=0
        )
        lora.attach(model.base_model, options)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = torch.nn.init.normal_(parameter.data.float(), std=0.1)
    else:
        model.lm_head.requires_grad_(False)
    return Objective(model)


def one_rank(rank: int, ranks: int, folder: str, cases: list[tuple[str, str, int]]) -> None:
    """The gradients of (kind, wrapper, budget) cases, saved by the first process."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo", WORLD_SIZE=str(ranks), RANK=str(rank)
    )
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    for kind, wrapper, budget in cases:
        made, model = objective(kind), None
        if wrapper == "fsdp":
            fsdp.shard(made, torch.device("cpu"))
            assert fsdp.is_sharded(made)
        else:
            model = torch.nn.parallel.DistributedDataParallel(
                made, find_unused_parameters=True, broadcast_buffers=False
            )
        backward(made, model or made, batch(packed=False), budget, torch.device("cpu"))
        torch.save(flat(made), f"{folder}/{kind}-{wrapper}-{budget}-{rank}.pt")
    torch.distributed.barrier()
    os._exit(
        0
    )  # gloo's destructor may wait for ever on a thread that waits for Python's lock (torch 2.13)
