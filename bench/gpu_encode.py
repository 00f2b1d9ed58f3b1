"""fletching.encode on a GPU beside SentenceTransformer.encode: same texts, model and run.

  python bench/gpu_encode.py --model M [--device cuda] [--texts 4000] [--rounds 3] [--peer-batch 32,256]

Ways take turns in each round; told are medians of wall seconds. sentence-transformers runs in float32 and bfloat16, with
each number of texts in a batch. Ours: padded batches, as the product runs them on a GPU, and packed ones under torch's
varlen_attn (bench/varlen.py), which it does not do there yet: the figure decides whether it should. On a CPU the packed
way is tried with the product's own attention, so that this script can be.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from encode import standard_library

Encode = Callable[[list[str]], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-batch", default="32,256", help="texts in a batch of the peer")
    args = parser.parse_args()
    texts = standard_library(args.texts)
    ways = ways_to_encode(args)
    vectors = {name: encode(texts[:64]) for name, encode in ways.items()}  # warm
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, encode in ways.items():
            start = time.perf_counter()
            vectors[name] = encode(texts)
            seconds[name].append(time.perf_counter() - start)
    print(f"{len(texts):,} texts, {args.rounds} rounds, {args.device}\n")
    tell(seconds, vectors)


def ways_to_encode(args: argparse.Namespace) -> dict[str, Encode]:
    import gpu_varlen
    from sentence_transformers import SentenceTransformer

    ways: dict[str, Encode] = {}
    for dtype in ("float32", "bfloat16"):
        peer = SentenceTransformer(args.model, device=args.device, model_kwargs={"dtype": dtype})
        for size in map(int, args.peer_batch.split(",")):
            ways[f"sentence-transformers, {dtype}, batches of {size}"] = partial(
                peer.encode, batch_size=size, normalize_embeddings=True, show_progress_bar=False
            )
    for dtype in ("float32", "bfloat16"):
        ways[f"fletching, {dtype}"] = partial(encoder_of(args, dtype).encode, role="document")
    packed = encoder_of(args, "bfloat16")
    gpu_varlen.prepare(packed)
    ways["packed by varlen_attn, bfloat16"] = partial(packed.encode, role="document")
    return ways


def encoder_of(args: argparse.Namespace, dtype: str) -> Any:
    from fletching.encode import Encoder
    from fletching.options import EncodingOptions
    from fletching.report import Report

    @dataclass(frozen=True, kw_only=True)
    class Options(EncodingOptions):
        output: str | None = None

    options = Options(model=args.model, dtype=dtype, device=args.device)
    return Encoder(options, Report("bench", quiet=True))


def tell(seconds: dict[str, list[float]], vectors: dict[str, np.ndarray]) -> None:
    medians = {name: statistics.median(rounds) for name, rounds in seconds.items()}
    first = next(iter(medians))
    of_peer = min(wall for name, wall in medians.items() if "sentence" in name and "bf" in name)
    print("| way | wall s | times the peer's fastest in bfloat16 | lowest cosine to the first |")
    print("|---|---|---|---|")
    for name, wall in medians.items():
        cosine = float((np.asarray(vectors[name]) * np.asarray(vectors[first])).sum(1).min())
        print(f"| {name} | {wall:.2f} | {of_peer / wall:.2f} | {cosine:.6f} |")
    of_ours = min(wall for name, wall in medians.items() if "sentence" not in name)
    print(f"\nour fastest way is {of_peer / of_ours:.2f} times as fast; the goal is 1.5")


if __name__ == "__main__":
    main()
