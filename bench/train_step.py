"""A training step of contrast-train beside those of sentence-transformers' losses: CPU seconds, and a profile.

  python bench/train_step.py [--pairs FILE.jsonl] [--texts mixed|full] [--batch 32] [--length 128] [--rounds 3]
      [--ways ours,mnrl,cached-16,cached-32] [--threads 1] [--dropout X] [--profile]
  ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python bench/train_step.py …          a CPU without AMX

One process holds a model for each way, and the ways take turns on the same batch, so that what else runs on the machine
meets all of them alike; told are the least CPU seconds of each (resource.getrusage), forward, backward, clipping and the
AdamW step together. Ours is what the command does: its options, collator and objective. The peers get the number type that
is faster here and, as ours, an allocator that keeps freed memory. Pairs: docstrings and functions of the running Python's
standard library, of mixed lengths; with `--texts full` the two halves of long functions, all of them cut; or a JSONL file
with `query` and `pos`. mnrl: MultipleNegativesRankingLoss. cached-N: CachedMultipleNegativesRankingLoss, mini-batch N.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file would stand for the tool of its name

EXAMPLES = Path(__file__).parent.parent / "examples"
LONG = 3000  # characters of a function both halves of which are cut
OPERATORS = 20  # in a profile

Step = Callable[[], float]  # one whole step; its loss


def main() -> None:
    args = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    args.model = args.model or base_model()
    with tempfile.TemporaryDirectory() as folder:
        pairs = list(read_pairs(args, folder))[: args.batch]
        steps = {way: build(way, args, pairs, f"{folder}/{way}") for way in args.ways.split(",")}
        if args.profile:
            for way, step in steps.items():
                print(f"{way}\n\n{profile(step)}\n")
            return
        losses = {way: step() for way, step in steps.items()}  # warms up
        seconds: dict[str, list[float]] = {way: [] for way in steps}
        for _ in range(args.rounds):
            for way, step in steps.items():
                start = cpu_seconds()
                step()
                seconds[way].append(cpu_seconds() - start)
    report(args, seconds, losses)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="[the one of examples/base_model.py]")
    parser.add_argument("--pairs")
    parser.add_argument("--texts", choices=("mixed", "full"), default="mixed")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default="ours,mnrl,cached-16,cached-32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dropout", type=float, help="in all ways [the model's own]")
    parser.add_argument("--profile", action="store_true", help="by operator, of one step of each")
    return parser.parse_args()


def base_model() -> str:
    words = [sys.executable, str(EXAMPLES / "base_model.py")]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def read_pairs(args: argparse.Namespace, folder: str) -> Iterator[tuple[str, str]]:
    """Distinct pairs, spread over the table."""
    if args.pairs:
        rows = [json.loads(line) for line in Path(args.pairs).read_text("utf-8").splitlines()]
        yield from {row["query"]: row["pos"][0] for row in rows}.items()
        return
    words = [sys.executable, str(EXAMPLES / "code-search" / "harvest.py"), folder]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    with open(Path(folder, "train.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    functions = {row["function"]: row["docstring"] for row in rows}
    if args.texts == "full":
        texts = [text for text in functions if len(text) > LONG]
        pairs = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in texts]
    else:
        pairs = [(docstring, function) for function, docstring in functions.items()]
    yield from dict(pairs[:: max(len(pairs) // args.batch, 1)]).items()


def build(way: str, args: argparse.Namespace, pairs: list[tuple[str, str]], folder: str) -> Step:
    import torch

    model, loss = (ours if way == "ours" else theirs)(way, args, pairs, folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> float:
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(value.item())

    return step


def ours(
    way: str, args: argparse.Namespace, pairs: list[tuple[str, str]], folder: str
) -> tuple[Any, Callable[[], Any]]:
    from contrast_train import cli
    from contrast_train.data.collator import PREFIX
    from contrast_train.run import ContrastRun
    from fletching.report import Report
    from fletching.train.run_dir import RunDir

    path = Path(f"{folder}.jsonl")
    rows = [{"query": query, "pos": [document]} for query, document in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    options = cli.Options(
        inputs=(str(path),),
        model=args.model,
        output=folder,
        batch=args.batch,
        query_length=args.length,
        doc_length=args.length,
        dropout=args.dropout,
    )
    run_dir = RunDir(folder)
    run = ContrastRun(options, Report("bench", quiet=True), cli.TOOL, run_path=run_dir.path)
    print(f"ours: {run.step.describe()}", file=sys.stderr)
    collated = run.collator()([run.dataset[0, row] for row in range(len(run.dataset))])
    features = {name.removeprefix(PREFIX): tensor for name, tensor in collated.items()}
    model = run.backbone.model.train()
    return model, lambda: run.objective([features])


def theirs(
    way: str, args: argparse.Namespace, pairs: list[tuple[str, str]], folder: str
) -> tuple[Any, Callable[[], Any]]:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    from fletching.encode.instruction_set import has_bf16_tiles
    from fletching.train.hardware import keep_freed_memory, set_dropout

    keep_freed_memory()
    model = SentenceTransformer(args.model, device="cpu").train()
    model.max_seq_length = args.length
    if args.dropout is not None:
        set_dropout(model, args.dropout)
    sides = [model.tokenize(list(texts)) for texts in zip(*pairs)]
    labels = torch.zeros(len(pairs))
    if way == "mnrl":
        loss: Any = losses.MultipleNegativesRankingLoss(model)
    else:
        size = int(way.removeprefix("cached-"))
        loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=size)

    def value() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16_tiles()):
            return loss([dict(side) for side in sides], labels)

    return model, value


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def profile(step: Step) -> str:
    import torch

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    events = [event for event in profiler.key_averages() if event.self_cpu_time_total > 0]
    events.sort(key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = ["| operator | share | calls |", "|---|---|---|"]
    for event in events[:OPERATORS]:
        lines.append(f"| {event.key} | {event.self_cpu_time_total / total:.1%} | {event.count:,} |")
    return "\n".join(lines)


def report(
    args: argparse.Namespace, seconds: dict[str, list[float]], losses: dict[str, float]
) -> None:
    import torch

    from fletching.encode.instruction_set import instruction_set

    what = Path(args.pairs).stem if args.pairs else f"{args.texts} texts"
    dropout = "the model's own" if args.dropout is None else args.dropout
    print(
        f"{processor()}, {instruction_set()}, {args.threads} thread(s), torch {torch.__version__}; "
        f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores\n"
    )
    print(
        f"{args.batch} pairs, {what}, cut at {args.length} tokens, dropout {dropout}, "
        f"least of {args.rounds} steps in turns\n"
    )
    print("| way | CPU s a step | times ours | all steps | first loss |")
    print("|---|---|---|---|---|")
    first = min(next(iter(seconds.values())))
    for way, each in seconds.items():
        shown = " ".join(f"{value:.2f}" for value in each)
        print(
            f"| {way} | {min(each):.2f} | {min(each) / first:.2f} | {shown} | {losses[way]:.4f} |"
        )


def processor() -> str:
    """Its name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    main()
