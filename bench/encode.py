"""fletching.encode against SentenceTransformer.encode at its defaults: same texts, model, threads and run.

  python bench/encode.py --model all-MiniLM-L6-v2 [--texts 300] [--rounds 5] [--threads 1]

Texts: docstrings and functions of the running Python's standard library, cut at the model's own length. The ways take
turns in each round; told are the medians over rounds of wall and CPU seconds, the ratio within a round, and how far the
vectors lie from those of sentence-transformers in float32.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


def standard_library(count: int) -> list[str]:
    """Docstrings and functions in equal parts, the same on every machine with this Python."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = path.read_text("utf-8", errors="replace")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
                found += [docstring, ast.get_source_segment(source, node) or ""]
    step = max(len(found) // count, 1) | 1  # odd, so that both kinds are taken
    return list(dict.fromkeys(found[::step]))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    texts = standard_library(args.texts)
    ways = ways_to_encode(args.model)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    vectors = {name: encode(texts[:16]) for name, encode in ways.items()}  # warm
    for _ in range(args.rounds):
        for name, encode in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            vectors[name] = encode(texts)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    print(
        f"{len(texts)} texts, {args.rounds} rounds, {args.threads} thread(s), Python {sys.version.split()[0]}, torch {torch.__version__}, bf16 units: {torch.cpu._is_amx_tile_supported()}\n"
    )
    tell(seconds, vectors)


def ways_to_encode(model: str) -> dict[str, Callable[[list[str]], np.ndarray]]:
    from sentence_transformers import SentenceTransformer

    from fletching.encode import Encoder
    from fletching.options import EncodingOptions
    from fletching.report import Report

    @dataclass(frozen=True, kw_only=True)
    class Options(EncodingOptions):
        output: str | None = None

    peer = SentenceTransformer(model, device="cpu")
    ways: dict[str, Callable[[list[str]], np.ndarray]] = {
        "sentence-transformers, defaults": lambda texts: peer.encode(texts, show_progress_bar=False)
    }
    for dtype in ("float32", "bfloat16"):
        encoder = Encoder(Options(model=model, dtype=dtype), Report("bench", quiet=True))
        ways[f"fletching, {dtype}"] = lambda texts, encoder=encoder: encoder.encode(
            texts, "document"
        )
    return ways


def tell(seconds: dict[str, list[tuple[float, float]]], vectors: dict[str, np.ndarray]) -> None:
    first = next(iter(seconds))
    print(
        "| way | wall s | CPU s | times faster (wall) | times faster (CPU) | lowest cosine | largest difference |\n|---|---|---|---|---|---|---|"
    )
    for name, rounds in seconds.items():
        wall, cpu = (statistics.median(values) for values in zip(*rounds))
        faster = [
            statistics.median(base[i] / own[i] for base, own in zip(seconds[first], rounds))
            for i in (0, 1)
        ]
        cosine = (vectors[name] * vectors[first]).sum(1).min()
        apart = np.abs(vectors[name] - vectors[first]).max()
        print(
            f"| {name} | {wall:.2f} | {cpu:.2f} | {faster[0]:.2f} | {faster[1]:.2f} | {cosine:.6f} | {apart:.1e} |"
        )


if __name__ == "__main__":
    main()
