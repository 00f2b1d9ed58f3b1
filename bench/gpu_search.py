"""hnmine's exact search on a device, in float32 and in float16 over shards of the pool, beside FAISS on the GPU.

  python bench/gpu_search.py --device cuda [--texts 1000000] [--queries 10000] [--dimension 384] [--k 126]

Random vectors in clusters, in memory; each way gives the nearest k of every query. Seconds hold the transfer of queries
and results, and of the pool where it is not resident. float16: the pool stays on the device in half precision, in shards
of 2^17 texts; the best k + 16 of each are ranked by their exact products afterwards, as hnmine ranks what it finds. The
share is of the exact k nearest that it finds. FAISS: GpuIndexFlatIP, where faiss-gpu is installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

sys.path.pop(0)  # this folder, where a file would stand for the tool of its name

SHARD = 1 << 17  # texts
QUERIES_AT_A_TIME = 2048
SLACK = 16
CLUSTER = 33


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--k", type=int, default=126)
    parser.add_argument("--cpu-queries", type=int, default=1000, help="of the search on the CPU")
    args = parser.parse_args()
    documents, queries = vectors(args.texts, args.queries, args.dimension)
    print(f"{args.queries:,} queries, {args.texts:,} texts x {args.dimension}, k = {args.k}\n")
    print("| way | s | million pairs a second | found |\n|---|---|---|---|")
    exact: Any = None
    for name, search in ways(documents, args).items():
        few = queries[: args.cpu_queries] if name.endswith("cpu") else queries
        search(few[:64])  # warm
        start = time.perf_counter()
        numbers = search(few)
        seconds = time.perf_counter() - start
        exact = numbers if exact is None else exact
        rate = len(few) * args.texts / seconds / 1e6
        print(f"| {name} | {seconds:.2f} | {rate:,.0f} | {found(numbers, exact):.2%} |", flush=True)


def vectors(texts: int, queries: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((texts // CLUSTER + 1, dimension), np.float32)
    documents = centres[draw.integers(0, len(centres), texts)]
    documents += draw.standard_normal(documents.shape, np.float32)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    near = documents[draw.integers(0, texts, queries)]
    near = near + 0.05 * draw.standard_normal(near.shape, np.float32)
    return documents, near / np.linalg.norm(near, axis=1, keepdims=True)


def found(numbers: np.ndarray, exact: np.ndarray) -> float:
    """The share of the exact nearest texts that are among `numbers`, of the queries that both have."""
    pairs = [
        (set(left), set(right))
        for left, right in zip(numbers.tolist(), exact.tolist(), strict=False)
    ]
    return sum(len(left & right) for left, right in pairs) / sum(len(right) for _, right in pairs)


def ways(
    documents: np.ndarray, args: argparse.Namespace
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The device's exact search first: the others are compared with it."""
    chosen = {
        f"hnmine, float32, {device}": exact_on(documents, args.k, device)
        for device in dict.fromkeys((args.device, "cpu"))
    }
    half = "bfloat16" if args.device == "cpu" else "float16"
    chosen[f"{half} over resident shards, ranked exactly"] = half_on(
        documents, args.k, args.device, half
    )
    by_faiss = faiss_on_gpu(documents, args.k)
    if by_faiss is None:
        print("FAISS left out: no faiss-gpu here", file=sys.stderr)
    else:
        chosen["FAISS, GpuIndexFlatIP"] = by_faiss
    return chosen


def exact_on(documents: np.ndarray, k: int, device: str) -> Callable[[np.ndarray], np.ndarray]:
    from hnmine.search import block_size, exact_finder

    def search(queries: np.ndarray) -> np.ndarray:
        find = exact_finder(queries, documents, device)
        rows, size = np.arange(len(queries)), block_size(k)
        blocks = [find(rows[start : start + size], k) for start in range(0, len(rows), size)]
        return np.concatenate([block.numbers for block in blocks])

    return search


def half_on(
    documents: np.ndarray, k: int, device: str, half: str
) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from hnmine.search import rank

    dtype = getattr(torch, half)
    starts = range(0, len(documents), SHARD)
    shards = [
        torch.from_numpy(documents[start : start + SHARD]).to(device, dtype) for start in starts
    ]

    def nearest(block: np.ndarray) -> np.ndarray:
        on_device = torch.from_numpy(block).to(device, dtype)
        scores, numbers = [], []
        for start, shard in zip(starts, shards):
            best = torch.topk(on_device @ shard.T, min(k + SLACK, len(shard)), sorted=False)
            scores.append(best.values)
            numbers.append(best.indices + start)
        every = torch.cat(scores, 1)
        best = torch.topk(every, min(k + SLACK, every.shape[1]), sorted=False).indices
        return torch.cat(numbers, 1).gather(1, best).cpu().numpy()

    def search(queries: np.ndarray) -> np.ndarray:
        blocks = []
        for start in range(0, len(queries), QUERIES_AT_A_TIME):
            block = queries[start : start + QUERIES_AT_A_TIME]
            blocks.append(rank(block, documents, nearest(block)).numbers[:, :k])
        return np.concatenate(blocks)

    return search


def faiss_on_gpu(documents: np.ndarray, k: int) -> Callable[[np.ndarray], np.ndarray] | None:
    try:
        import faiss
    except ImportError:
        return None
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        return None
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), documents.shape[1])
    index.add(documents)
    return lambda queries: index.search(queries, k)[1]


if __name__ == "__main__":
    main()
