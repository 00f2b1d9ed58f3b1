"""Gradients of one global batch, computed in every way there is: the cases of the suite and of bench/gradients.py.

`gather(cases, folder)` starts one process group for each number of ranks, which computes all its cases; each rank
leaves (loss, gradient, weights after two SGD steps) in a file. `expected` is the same in one process and one pass.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from suite import start_server
from torch import Tensor, nn

from contrast_train import losses
from contrast_train.losses import PairStructure
from contrast_train.training.objective import ContrastObjective, EmbeddingSettings
from fletching.train.distributed import deepspeed_config, deepspeed_engine, fsdp

LOSSES = {
    "infonce": losses.infonce,
    "symmetric": functools.partial(losses.infonce, symmetric=True, temperature=0.1),
    "positives": functools.partial(losses.infonce, candidates="positives"),
    "own": functools.partial(losses.infonce, candidates="own"),
    "query-negatives": functools.partial(
        losses.infonce, query_negatives=True, similarity="dot", temperature=1.0
    ),
    "triplet": functools.partial(losses.triplet, triplet_margin=0.7),
    "kl": functools.partial(losses.kl, teacher_temperature=0.5),
    "infonce+kl": functools.partial(losses.infonce_kl, kl_weight=0.3),
    "margin-mse": losses.margin_mse,
    "cosent": losses.cosent,
    "angle": losses.angle,
    "gte": functools.partial(
        losses.infonce,
        directions=("query-doc", "doc-query", "query-query", "doc-doc"),
        softmax="joint",
        hardness_weight=5.0,
    ),
    "added-terms": functools.partial(
        losses.with_added_terms,
        loss=losses.infonce,
        terms=(
            (losses.teacher_cosine, 0.5),
            (losses.teacher_similarities, 0.5),
            (losses.spread_out, 2.0),
        ),
    ),
    "matryoshka": functools.partial(
        losses.matryoshka, loss=losses.infonce, dims=(4, 12), weights=(1, 2)
    ),
}
RATE = 0.05  # of the SGD steps
ZERO = {"zero1": 1, "zero2": 2, "zero3": 3}
FORGETS = 1e-30  # SGD's momentum that changes no weight and keeps the gradient as state: DeepSpeed has cleared it after the update


class Case(NamedTuple):
    """batch_tokens: of a micro-batch. keep: tokens whose activations stay. accumulate: global batches an update."""

    loss: str
    wrapper: str  # ddp | fsdp | zero1 | zero2 | zero3; none in one process
    ranks: int
    batch_tokens: int
    keep: int = 0
    accumulate: int = 1
    rows: int = 9


class Step(NamedTuple):
    value: float
    gradient: Tensor
    weights: Tensor


class Toy(nn.Module):
    """Token vectors through layers with dropout, averaged, as a SentenceTransformer takes and gives it: with a
    buffer and with a head that no loss sees."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 12)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Dropout(dropout)) for _ in range(3)
        )
        self.head = nn.Linear(12, 12)
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        mask = features["attention_mask"][..., None].to(self.tokens.weight)
        mixed = self.tokens(features["input_ids"])
        for layer in self.layers:
            mixed = mixed + layer(mixed) * self.scale
        mixed = mixed * mask
        return {"sentence_embedding": mixed.sum(1) / mask.sum(1)}


def model(dropout: float = 0.0) -> Toy:
    torch.manual_seed(0)
    return Toy(dropout).train()


def batch(seed: int, rows: int) -> dict[str, Tensor]:
    """Queries, then a positive and a hard negative for each; one pair is a known false negative."""
    gen = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 20, (rows * 3,), generator=gen)
    numbers = torch.arange(rows)
    positive = torch.stack([numbers, numbers], 1)
    hard = torch.stack([numbers, numbers + rows], 1)
    masked = torch.cat([positive, torch.tensor([[0, rows - 1]])])
    units = nn.functional.normalize(torch.randn(3 * rows, 12, generator=gen), dim=1)
    scored = [torch.cat([numbers[:, None], pairs], 1) for pairs in (positive, hard)]
    return {
        "input_ids": torch.randint(1, 50, (int(lengths.sum()),), generator=gen),
        "lengths": lengths,
        "queries": torch.tensor(rows),
        "rows": numbers,
        **PairStructure(
            positive_pairs=positive,
            weights=torch.full((rows,), 1 / rows),
            hard_negative_pairs=hard,
            masked_pairs=masked,
            scored_pairs=torch.cat(scored),
            scores=torch.randn(2 * rows, generator=gen),
            teacher_queries=units[:rows],
            teacher_documents=units[rows:],
        ).tensors(),
    }


def flat(tensors: Iterable[Tensor | None], like: Iterable[Tensor]) -> Tensor:
    shapes = [
        getattr(template, "ds_shape", template.shape) for template in like
    ]  # ZeRO-3 leaves an empty tensor
    whole = [
        torch.zeros(shape) if tensor is None else fsdp.full_tensor(tensor)
        for tensor, shape in zip(tensors, shapes)
    ]
    return torch.cat([tensor.flatten() for tensor in whole])


def compute(toy: nn.Module, case: Case, settings: EmbeddingSettings) -> Step:
    """The first update's loss and gradient, and the weights after two updates by SGD."""
    parameters = list(toy.parameters())
    trained, head = (
        parameters[:-2],
        parameters[-2:],
    )  # no gradient reaches the head, so no decay may either
    groups = [{"params": trained}, {"params": head, "weight_decay": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=FORGETS)
    if case.wrapper in ZERO:
        toy = engine(toy, optimizer, ZERO[case.wrapper])
        optimizer = toy.updates  # type: ignore[assignment]
    objective = ContrastObjective(toy, LOSSES[case.loss], settings)
    values, gradient = [], torch.empty(0)
    for update in range(2):
        optimizer.zero_grad()
        for number in range(case.accumulate):
            # As the Trainer does it: the mean over the batches, DDP silent until the last of them.
            quiet = number < case.accumulate - 1 and hasattr(toy, "no_sync")
            with toy.no_sync() if quiet else torch.enable_grad():  # type: ignore[operator]
                value = objective([batch(update * 10 + number, case.rows)])
                (value / case.accumulate).backward()
            values.append(value.item())
        optimizer.step()
        if update == 0:
            states = optimizer.state_dict()["state"]
            gradient = flat(
                [
                    states.get(number, {}).get("momentum_buffer")
                    for number in range(len(parameters))
                ],
                parameters,
            )
    return Step(
        sum(values[: case.accumulate]) / case.accumulate,
        gradient,
        flat(parameters, parameters).detach(),
    )


def expected(case: Case) -> Step:
    alone = case._replace(wrapper="none")
    return compute(model(), alone, EmbeddingSettings(batch_tokens=10**6))


def wrapped(toy: nn.Module, wrapper: str) -> nn.Module:
    if wrapper == "ddp":
        return nn.parallel.DistributedDataParallel(
            toy, find_unused_parameters=True, broadcast_buffers=False
        )
    if wrapper == "fsdp":
        fsdp.shard(toy, torch.device("cpu"))
        assert fsdp.is_sharded(toy)
    return toy


def engine(toy: nn.Module, optimizer: torch.optim.Optimizer, stage: int) -> Any:
    """As the trainer makes it; in stage 3 without the small parameters that DeepSpeed leaves whole."""
    shared = deepspeed_config.ZERO_DEFAULTS | {
        "stage": stage,
        "stage3_param_persistence_threshold": 0,
    }
    settings = deepspeed_config.BASE_CONFIG | {
        "zero_optimization": shared,
        "gradient_clipping": 0.0,
    }
    value = toy(
        {"input_ids": torch.ones(1, 4, dtype=torch.long), "attention_mask": torch.ones(1, 4)}
    )["sentence_embedding"]
    return deepspeed_engine.DeepSpeedEngine(
        toy,
        optimizer,
        settings=settings,
        reachable=deepspeed_engine.reachable_parameters(toy, value),
        on_norm=lambda norm: norm,
    )


def one_rank(rank: int, ranks: int, folder: str, cases: list[Case]) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        GLOO_SOCKET_IFNAME="lo",
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
    )
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet-{ranks}", rank=rank, world_size=ranks
    )
    for case in cases:
        step = compute(
            wrapped(model(), case.wrapper),
            case,
            EmbeddingSettings(batch_tokens=case.batch_tokens, keep_tokens=case.keep),
        )
        torch.save(tuple(step), name(folder, case, rank))
    torch.distributed.barrier()
    os._exit(
        0
    )  # gloo's destructor may wait for ever on a thread that waits for Python's lock (torch 2.13)


def name(folder: Any, case: Case, rank: int) -> str:
    return f"{folder}/{'-'.join(map(str, case))}-of-{rank}.pt"


def gather(cases: list[Case], folder: Path) -> None:
    start_server()
    for ranks in sorted({case.ranks for case in cases}):
        chosen = [case for case in cases if case.ranks == ranks]
        # Forked from the tests' own server, which has torch; spawned ones would import it each.
        torch.multiprocessing.start_processes(
            one_rank, (ranks, str(folder), chosen), nprocs=ranks, start_method="forkserver"
        )


def errors(case: Case, folder: Path) -> tuple[float, float]:
    """(largest relative error of the gradient, of the way that the weights went) over all ranks."""
    right, start = expected(case), flat(model().parameters(), model().parameters())
    worst_gradient = worst_weights = 0.0
    for rank in range(case.ranks):
        step = Step(*torch.load(name(folder, case, rank), weights_only=True))
        worst_gradient = max(
            worst_gradient, float((step.gradient - right.gradient).norm() / right.gradient.norm())
        )
        worst_weights = max(
            worst_weights,
            float((step.weights - right.weights).norm() / (right.weights - start).norm()),
        )
    return worst_gradient, worst_weights
