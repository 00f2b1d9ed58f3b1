"""The loss stage of contrast-train against that of CachedMultipleNegativesRankingLoss, on the same vectors.

  python bench/contrast_loss.py [--batch 4096] [--dimension 384] [--rounds 3] [--threads 1]

Both get the vectors of one global batch of pairs and give the loss and the gradient for every vector, which is what
GradCache sends back through the encoder. The peer's stage is its own method `calculate_loss` under autograd, called as
its `forward` calls it, for several mini-batch sizes; runs are interleaved; told are medians of CPU seconds
(which other work on the machine hardly changes), and how far the gradients differ. Each way runs in a child of its own for its peak memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path = [
    path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent
]  # contrast_train.py beside this
Stage = Callable[[Tensor, Tensor], tuple[float, Tensor, Tensor]]


def ours(tile: int) -> Stage:
    from contrast_train import losses
    from contrast_train.losses import PairStructure

    def stage(q: Tensor, d: Tensor) -> tuple[float, Tensor, Tensor]:
        terms = torch.arange(len(q))[:, None].repeat(1, 2)
        structure = PairStructure(
            positive_pairs=terms,
            weights=torch.full((len(q),), 1 / len(q)),
            hard_negative_pairs=torch.empty(0, 2, dtype=torch.long),
            masked_pairs=terms,
        )
        with torch.no_grad():
            found = losses.infonce(q, d, structure, temperature=0.05, tile=tile)
        return found.value.item(), found.queries, found.documents

    return stage


def peer(mini_batch: int) -> Stage:
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    no_model = torch.nn.Sequential(torch.nn.Identity())  # the loss stage never calls it
    loss = CachedMultipleNegativesRankingLoss(no_model, scale=20.0, mini_batch_size=mini_batch)  # type: ignore[arg-type]

    def stage(q: Tensor, d: Tensor) -> tuple[float, Tensor, Tensor]:
        # As its forward hands them over: each column in pieces of a mini-batch, which are leaves.
        columns = [
            [part.detach().requires_grad_() for part in vectors.split(mini_batch)]
            for vectors in (q, d)
        ]
        with torch.enable_grad():
            value = loss.calculate_loss(columns, with_backward=True)
        return value.item(), *(torch.cat([part.grad for part in column]) for column in columns)  # type: ignore[misc]

    return stage


def products(q: Tensor, d: Tensor, tile: int = 512) -> tuple[float, Tensor, Tensor]:
    """The three float32 matrix products that an exact gradient takes, and nothing else: what no way can fall below."""
    for rows in q.split(tile):
        scores = rows @ d.T  # (t, N)
        scores @ d, scores.T @ rows
    return 0.0, q, d


def measured(stage: Stage, q: Tensor, d: Tensor) -> tuple[float, tuple[float, Tensor, Tensor]]:
    start = time.process_time()
    found = stage(q, d)
    return time.process_time() - start, found


def peak(stage: Stage, q: Tensor, d: Tensor) -> float:
    """MB that the stage adds to a forked process."""
    read, write = os.pipe()
    if os.fork() == 0:
        torch.set_num_threads(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stage(q, d)
        os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read, 32) or 0) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mini-batches", default="32,128,256,512,1024")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    gen = torch.Generator().manual_seed(0)
    q = torch.randn(args.batch, args.dimension, generator=gen)
    d = q + 1.5 * torch.randn(args.batch, args.dimension, generator=gen)
    stages = {"contrast-train, tile 512": ours(512)}
    stages |= {
        f"CachedMultipleNegativesRankingLoss, mini-batch {size}": peer(size)
        for size in map(int, args.mini_batches.split(","))
    }
    memory = {name: peak(stage, q, d) for name, stage in stages.items()}
    for stage in stages.values():  # kernels and imports
        stage(q[:64], d[:64])
    times: dict[str, list[float]] = {name: [] for name in stages}
    results, floor = {}, []
    for _ in range(args.rounds):
        for name, stage in stages.items():
            seconds, results[name] = measured(stage, q, d)
            times[name].append(seconds)
        floor.append(measured(products, q, d)[0])
    first, *others = stages
    _, grad_q, grad_d = results[first]
    print(f"B = {args.batch:,}, D = {args.dimension}, {args.rounds} rounds, {args.threads} thread(s), float32, {platform.machine()}, "
          f"Python {platform.python_version()}, torch {torch.__version__}\n")  # fmt: skip
    print(
        "| loss stage | median CPU s | times ours | added memory, MB | loss | gradient differs by |\n|---|---|---|---|---|---|"
    )
    for name in stages:
        theirs = results[name]
        apart = (
            torch.cat([theirs[1], theirs[2]]) - torch.cat([grad_q, grad_d])
        ).norm() / torch.cat([grad_q, grad_d]).norm()
        median = statistics.median(times[name])
        print(
            f"| {name} | {median:.3f} | {median / statistics.median(times[first]):.1f} | {memory[name]:.0f} | {theirs[0]:.6f} | {apart:.1e} |"
        )
    best = min(statistics.median(times[name]) for name in others) / statistics.median(times[first])
    print(f"\nAgainst the peer's best mini-batch: {best:.1f} times as fast.")
    print(f"The three matrix products by themselves: {statistics.median(floor):.3f} s.")


if __name__ == "__main__":
    main()
