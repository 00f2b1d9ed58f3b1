"""What simfilter costs beyond encoding: reading, joining, scoring and writing, as a share of the whole.

  python bench/simfilter.py --model all-MiniLM-L6-v2 [--pairs 1000]
  python bench/simfilter.py --model all-MiniLM-L6-v2 --whole [--pairs 1500] [--rounds 3] [--threads 1]

The same pairs pass twice in one process: once with the encoder at work (each vector timed), and the time outside
Encoder.encode is the rest. Wall and CPU seconds.

With --whole: simfilter as a process from start to end, against one that does nothing but load the model with
sentence-transformers and encode the same texts. They take turns; the least of the rounds is told, since a busy machine only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encode import standard_library

sys.path = [
    path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent
]  # this file is named like the tool


CRITERIA = (["--min-sim", "0.3"], ["--keep-top", "0.9"], ["--rank-within", "20"])


@dataclass
class Spent:
    """Wall and CPU seconds in the calls of one function."""

    wall: float = 0.0
    cpu: float = 0.0

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose calls are added."""

        def call(*args: Any, **kwargs: Any) -> Any:
            before = Spent.now()
            try:
                return function(*args, **kwargs)
            finally:
                passed = Spent.now() - before
                self.wall += passed.wall
                self.cpu += passed.cpu

        return call

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time())


def main() -> None:
    args = parsed()
    if args.whole:
        compare_processes(args)
        return
    import torch

    from fletching.encode.instruction_set import instruction_set

    texts = standard_library(2 * args.pairs)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{len(texts)} texts, {torch.get_num_threads()} threads")
    print(f"{instruction_set()}, torch {torch.__version__}, load at the start {load}\n")
    header = "| criterion | whole, wall s | whole, CPU s | rest, wall | rest, CPU |"
    print(header + "\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source = write_pairs(Path(folder) / "pairs.jsonl", texts)
        run_simfilter(source, args.model, "--limit", "8", "--score-only")  # imports
        for criterion in CRITERIA:
            print(measured(source, args.model, criterion), flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--whole", action="store_true", help="whole processes against the peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


PEER = """
import json, sys
from sentence_transformers import SentenceTransformer
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
texts = [text for row in rows for text in (row["query"], *row["pos"])]
SentenceTransformer(sys.argv[2], device="cpu").encode(texts, show_progress_bar=False)
"""


def compare_processes(args: argparse.Namespace) -> None:
    """The least wall and CPU seconds of simfilter, and of the peer that encodes alone."""
    texts = standard_library(2 * args.pairs)
    load = os.getloadavg()[0]
    print(f"{len(texts)} texts, {args.threads} threads, {args.rounds} rounds, load {load:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        source = write_pairs(Path(folder) / "pairs.jsonl", texts)
        out = str(source.with_name("out.parquet"))
        simfilter = ["simfilter", str(source), "--model", args.model, "--min-sim", "0.3", "-o", out]
        ways = {
            "simfilter": simfilter,
            "sentence-transformers, encode alone": [
                sys.executable, "-c", PEER, str(source), args.model
            ],
        }  # fmt: skip
        runs: dict[str, list[Spent]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, line in ways.items():
                runs[way].append(process_cost(line, args.threads))
                print(way, runs[way][-1], file=sys.stderr)
    least = {
        way: Spent(min(run.wall for run in each), min(run.cpu for run in each))
        for way, each in runs.items()
    }
    ours, peer = least.values()
    print("| way | wall s | CPU s |\n|---|---|---|")
    for way, cost in least.items():
        print(f"| {way} | {cost.wall:.1f} | {cost.cpu:.1f} |")
    print(f"\nCPU seconds of the peer over ours: {peer.cpu / ours.cpu:.2f}")


def process_cost(line: list[str], threads: int) -> Spent:
    """Of one process from its start to its end."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    started = time.perf_counter()
    process = subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"{line[0]} failed with status {status}")
    return Spent(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


def write_pairs(path: Path, texts: list[str]) -> Path:
    pairs = zip(texts[::2], texts[1::2])
    lines = [json.dumps({"query": query, "pos": [text]}) + "\n" for query, text in pairs]
    path.write_text("".join(lines), "utf-8")
    return path


def run_simfilter(source: Path, model: str, *criterion: str) -> None:
    from simfilter import cli

    out = source.with_name("out.parquet")
    line = [str(source), "--model", model, "--quiet", *criterion, "-o", str(out)]
    assert cli.main(line) == 0


def measured(source: Path, model: str, criterion: list[str]) -> str:
    """The line of one criterion: loading the model counts for nothing, encoding is not the rest."""
    from fletching.encode import Encoder

    encoding, loading = Spent(), Spent()
    encode, load = Encoder.encode, Encoder.__init__
    Encoder.encode = encoding.timed(encode)  # type: ignore[method-assign]
    Encoder.__init__ = loading.timed(load)  # type: ignore[method-assign]
    before = Spent.now()
    run_simfilter(source, model, *criterion)
    whole = Spent.now() - before - loading
    Encoder.encode, Encoder.__init__ = encode, load  # type: ignore[method-assign]
    rest = 1 - encoding.wall / whole.wall, 1 - encoding.cpu / whole.cpu
    cost = f"{whole.wall:.2f} | {whole.cpu:.2f} | {rest[0]:.1%} | {rest[1]:.1%}"
    return f"| `{' '.join(criterion)}` | {cost} |"


if __name__ == "__main__":
    main()
