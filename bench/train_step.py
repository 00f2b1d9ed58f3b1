"""A training step of contrast-train beside those of sentence-transformers' losses: CPU seconds, and a profile.

  python bench/train_step.py [--pairs FILE.jsonl] [--texts mixed|full] [--batch 32] [--length 128] [--rounds 3]
      [--ways ours,mnrl,cached-16,cached-32] [--threads 1] [--dropout X] [--device cuda] [--profile]
  ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python bench/train_step.py …          a CPU without AMX

One process holds a model for each way, and the ways take turns on the same batch, so that what else runs on the machine
meets all of them alike; told are the least CPU seconds of each (resource.getrusage), forward, backward, clipping and the
AdamW step together; on a GPU wall seconds until it is idle. Ours is what the command does: its options, collator and
objective. The peers get the number type that is faster here (with `-float32`
behind their name float32, their default) and, as ours, an allocator that keeps freed memory. Use of the
peak: operations that the texts need (6 for each weight and token, 12 for each layer, hidden unit and pair of tokens of a
text; nothing for padding and for what is computed twice) a second, in the rate of a large product measured here. Pairs: docstrings and functions of the running Python's
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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file would stand for the tool of its name

EXAMPLES = Path(__file__).parent.parent / "examples"
LONG = 3000  # characters of a function both halves of which are cut
OPERATORS = 20  # in a profile
IN_FLOAT32 = "-float32"  # behind the name of a peer

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
                print(f"{way}\n\n{profile(step, args.device)}\n")
            return
        losses = {way: step() for way, step in steps.items()}  # warms up
        seconds: dict[str, list[float]] = {way: [] for way in steps}
        for _ in range(args.rounds):
            for way, step in steps.items():
                start = now(args.device)
                step()
                seconds[way].append(now(args.device) - start)
        operations = needed_operations(args, pairs)
    report(args, seconds, losses, operations)


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
    parser.add_argument("--device", default="cpu")
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
        device=args.device,
    )
    run_dir = RunDir(folder)
    run = ContrastRun(options, Report("bench", quiet=True), cli.TOOL, run_path=run_dir.path)
    print(f"ours: {run.step.describe()}", file=sys.stderr)
    collated = run.collator()([run.dataset[0, row] for row in range(len(run.dataset))])
    features = {
        name.removeprefix(PREFIX): tensor.to(args.device) for name, tensor in collated.items()
    }
    model = run.backbone.model.train()
    return model, lambda: run.objective([features])


def theirs(
    way: str, args: argparse.Namespace, pairs: list[tuple[str, str]], folder: str
) -> tuple[Any, Callable[[], Any]]:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    from fletching.encode.instruction_set import multiplies_bf16
    from fletching.train.hardware import keep_freed_memory, set_dropout

    keep_freed_memory()
    model = SentenceTransformer(args.model, device=args.device).train()
    model.max_seq_length = args.length
    if args.dropout is not None:
        set_dropout(model, args.dropout)
    sides = [
        {
            name: value.to(args.device) if isinstance(value, torch.Tensor) else value
            for name, value in model.tokenize(list(texts)).items()
        }
        for texts in zip(*pairs)
    ]
    labels = torch.zeros(len(pairs), device=args.device)
    name = way.removesuffix(IN_FLOAT32)
    if name == "mnrl":
        loss: Any = losses.MultipleNegativesRankingLoss(model)
    else:
        size = int(name.removeprefix("cached-"))
        loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=size)

    kind = torch.device(args.device).type
    has_bfloat16 = multiplies_bf16() if kind == "cpu" else torch.cuda.is_bf16_supported()
    in_bfloat16 = has_bfloat16 and not way.endswith(IN_FLOAT32)

    def value() -> Any:
        with torch.autocast(kind, torch.bfloat16, enabled=in_bfloat16):
            return loss([dict(side) for side in sides], labels)

    return model, value


def now(device: str) -> float:
    """CPU seconds of this process; of a GPU wall seconds, when it has done what it was given."""
    if device == "cpu":
        return cpu_seconds()
    import torch

    torch.cuda.synchronize(device)
    return time.perf_counter()


def needed_operations(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> float:
    """Floating-point operations of forward and backward pass that the tokens of the texts need."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    network = AutoModel.from_pretrained(args.model)
    texts = [text for pair in pairs for text in pair]
    lengths = [
        len(ids) for ids in tokenizer(texts, truncation=True, max_length=args.length)["input_ids"]
    ]
    embeddings = sum(each.numel() for each in network.get_input_embeddings().parameters())
    weights = sum(each.numel() for each in network.parameters()) - embeddings
    config = network.config
    of_scores = 12 * config.num_hidden_layers * config.hidden_size
    return 6.0 * weights * sum(lengths) + of_scores * sum(length**2 for length in lengths)


def peak_rate(device: str) -> float:
    """Operations a second of a large product, in the number type that is faster here."""
    import torch

    from fletching.encode.model import resolve_dtype

    size = 1024 if device == "cpu" else 8192
    matrix = torch.ones(size, size, dtype=resolve_dtype("auto", device), device=device)
    seconds = []
    for _ in range(8):
        start = now(device)
        matrix @ matrix
        seconds.append(now(device) - start)
    return 2 * size**3 / min(seconds)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def profile(step: Step, device: str) -> str:
    import torch

    kinds = torch.profiler.ProfilerActivity
    on_cpu = device == "cpu"
    step()
    with torch.profiler.profile(
        activities=[kinds.CPU] if on_cpu else [kinds.CPU, kinds.CUDA]
    ) as profiler:
        step()
    field = "self_cpu_time_total" if on_cpu else "self_device_time_total"
    times = {event.key: (getattr(event, field), event.count) for event in profiler.key_averages()}
    total = sum(time for time, _ in times.values())
    lines = ["| operator | share | calls |", "|---|---|---|"]
    for name, (spent, count) in sorted(times.items(), key=lambda item: -item[1][0])[:OPERATORS]:
        lines.append(f"| {name} | {spent / total:.1%} | {count:,} |")
    return "\n".join(lines)


def report(
    args: argparse.Namespace,
    seconds: dict[str, list[float]],
    losses: dict[str, float],
    operations: float,
) -> None:
    import torch

    from fletching.encode.instruction_set import instruction_set

    what = Path(args.pairs).stem if args.pairs else f"{args.texts} texts"
    dropout = "the model's own" if args.dropout is None else args.dropout
    kind = f"{processor()}, {instruction_set()}"
    if args.device != "cpu":
        kind = torch.cuda.get_device_name(args.device)
    peak = peak_rate(args.device)
    print(
        f"{kind}, {args.threads} thread(s), torch {torch.__version__}; "
        f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores\n"
    )
    print(
        f"{args.batch} pairs, {what}, cut at {args.length} tokens, dropout {dropout}, "
        f"least of {args.rounds} steps in turns\n"
    )
    print(
        f"{operations / 1e9:,.1f} GFLOP are needed, a large product runs at {peak / 1e9:,.0f} GFLOP/s\n"
    )
    unit = "CPU s" if args.device == "cpu" else "s"
    print(f"| way | {unit} a step | times ours | use of the peak | all steps | first loss |")
    print("|---|---|---|---|---|---|")
    first = min(next(iter(seconds.values())))
    for way, each in seconds.items():
        shown = " ".join(f"{value:.2f}" for value in each)
        share = operations / min(each) / peak
        print(
            f"| {way} | {min(each):.3f} | {min(each) / first:.2f} | {share:.0%} | {shown} "
            f"| {losses[way]:.4f} |"
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
