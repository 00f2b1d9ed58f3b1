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
from mntp.block_plan import BlockPlan
from mntp.masking import TokenMasking
from mntp.objective import MntpCollator, MntpObjective
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
    attention.make_bidirectional(model)
    return model


class NumberPieces:
    """Pieces that are lists of numbers."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.positions = np.array(sizes), np.cumsum([0, *sizes])

    def __getitem__(self, number: int) -> np.ndarray:
        return np.arange(self.positions[number], self.positions[number + 1]) % 290 + 5


def batch(packed: bool = True) -> dict[str, torch.Tensor]:
    """A global batch of nine pieces."""
    pieces: Any = NumberPieces([9, 3, 16, 5, 7, 12, 2, 4, 1])
    plan = BlockPlan(sizes=pieces.sizes, length=16, batch=9, seed=0, steps=1, packed=packed)
    masking = TokenMasking(
        probability=0.3,
        replaced=(0.8, 0.1),
        mask_id=99,
        vocabulary=300,
        special=np.array([0, 1, 2]),
        seed=0,
    )
    return MntpCollator(pieces, masking)([(0, block) for block in plan.epoch(0)[0]])


def flat(objective: torch.nn.Module) -> torch.Tensor:
    """The whole gradient, of all parameters that train."""
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for _, parameter in fsdp.trained_parameters(objective)
    ]
    return torch.cat([fsdp.full_tensor(gradient).flatten() for gradient in gradients])


def objective(kind: str) -> MntpObjective:
    """kind: full, or lora, where all but the adapters is frozen, in another number type."""
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
    return MntpObjective(model)


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
        rank_objective = objective(kind)
        model: torch.nn.Module = rank_objective
        if wrapper == "fsdp":
            fsdp.shard(rank_objective, torch.device("cpu"))
            assert fsdp.is_sharded(rank_objective)
        else:
            model = torch.nn.parallel.DistributedDataParallel(
                rank_objective, find_unused_parameters=True, broadcast_buffers=False
            )
        backward(
            rank_objective, model, batch(packed=False), budget=budget, device=torch.device("cpu")
        )
        torch.save(flat(rank_objective), f"{folder}/{kind}-{wrapper}-{budget}-{rank}.pt")
    torch.distributed.barrier()
    os._exit(
        0
    )  # gloo's destructor may wait for ever on a thread that waits for Python's lock (torch 2.13)
