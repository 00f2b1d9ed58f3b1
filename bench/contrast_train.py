"""contrast-train against sentence-transformers' trainer: steps a second and peak memory, same batches, model and run.

  python bench/contrast_train.py --model all-MiniLM-L6-v2 [--pairs FILE.jsonl] [--batch 64] [--length 128] [--steps 5]
      [--rounds 3] [--mini-batches 16,32,64] [--threads 1] [--dropout X] [--ways ours,mnrl,...] [--results FILE]

Pairs: docstrings and functions of the running Python's standard library, of lengths as they come; or a JSONL file with
`query` and `pos`. Each way trains in a process of its own and the ways take turns in each round. The first step is left
out (warming up); told are medians over all others. The peers get what makes them fastest here: bfloat16, their best
mini-batch. Every way must start with the same loss when dropout is off (--dropout 0). `ours X` keeps X GB of activations
(--activations X; with 0 all is computed a second time, as by the cached peers); `ours` is the default. With --results each run's
figures are added to a file of JSON lines, and the table is over all that it holds: a long measurement can be made a round at a time.

  python bench/contrast_train.py --model all-MiniLM-L6-v2 --start-up [--rounds 3]

CPU seconds of the command from its start to its first optimiser step, on 8 pairs of one sentence: Python, imports, model, checks.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where this file would stand for the tool of its name

HARVEST = Path(__file__).parent.parent / "examples" / "code-search" / "harvest.py"


def main() -> None:
    args = arguments()
    if args.start_up:
        tell_start_up(args)
        return
    if args.way:
        print(json.dumps(train(args)))
        return
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        args.pairs = write_pairs(args, folder)
        for number in range(args.rounds):
            for way in ways(args):
                run = {"way": way, **child(args, way)}
                print(f"round {number + 1}: {run}", file=sys.stderr, flush=True)
                found.append(run)
    if args.results:
        with open(args.results, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(run) + "\n" for run in found)
        found = [json.loads(line) for line in Path(args.results).read_text("utf-8").splitlines()]
    tell(
        args,
        {
            way: [run for run in found if run["way"] == way]
            for way in dict.fromkeys(run["way"] for run in found)
        },
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mini-batches", default="16,32,64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dropout", type=float, help="in all ways [the model's own]")
    parser.add_argument("--ways")
    parser.add_argument("--results", metavar="FILE")
    parser.add_argument("--start-up", action="store_true")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser.parse_args()


def ways(args: argparse.Namespace) -> list[str]:
    return (
        args.ways.split(",")
        if args.ways
        else [
            "ours",
            "ours 3",
            *(f"cached {size}" for size in args.mini_batches.split(",")),
            "mnrl",
        ]
    )


def write_pairs(args: argparse.Namespace, folder: str) -> str:
    """As many distinct pairs as the steps take, spread over the whole table, as rows of `examples`."""
    if args.pairs:
        rows = [json.loads(line) for line in Path(args.pairs).read_text("utf-8").splitlines()]
        pairs = [(row["query"], row["pos"][0]) for row in rows]
    else:
        subprocess.run([sys.executable, HARVEST, folder], check=True, stdout=subprocess.DEVNULL)
        with open(Path(folder, "train.csv"), encoding="utf-8", newline="") as file:
            pairs = [(row["docstring"], row["function"]) for row in csv.DictReader(file)]
    queries, documents, kept = set(), set(), []
    for query, document in pairs:
        if query not in queries | documents and document not in queries | documents:
            queries.add(query)
            documents.add(document)
            kept.append((query, document))
    wanted = args.batch * args.steps
    chosen = kept[:: max(len(kept) // wanted, 1)][:wanted]
    path = Path(folder, "pairs.jsonl")
    path.write_text(
        "".join(
            json.dumps({"query": query, "pos": [document]}) + "\n" for query, document in chosen
        ),
        "utf-8",
    )
    return str(path)


# The command, ended when the first step begins; the imports that this needs are those of the command.
FIRST_STEP = """
import gc, os, sys, time
from contrast_train import cli
gc.disable()
from contrast_train.training.gradcache import GradCache
gc.enable()
def first_step(*_):
    print(time.process_time())
    sys.stdout.flush()
    os._exit(0)
GradCache.cache_step = first_step
cli.main()
"""


def tell_start_up(args: argparse.Namespace) -> None:
    """The median over the rounds, and the least."""
    env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    seconds = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder, "pairs.jsonl")
            rows.write_text(
                "".join(f'{{"query": "query {n}", "pos": ["its answer {n}"]}}\n' for n in range(8))
            )
            words = [rows, "--model", args.model, "-o", Path(folder, "tuned"), "--batch", "8"]
            command = [sys.executable, "-c", FIRST_STEP, *map(str, words), "--quiet"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env)
            seconds.append(float(done.stdout.splitlines()[-1]))
    print(
        f"{statistics.median(seconds):.2f} CPU s to the first step, the least {min(seconds):.2f}, "
        f"of {len(seconds)}"
    )


def child(args: argparse.Namespace, way: str) -> dict[str, Any]:
    words = [sys.executable, __file__, "--way", way, "--model", args.model, "--pairs", args.pairs]
    for name in ("batch", "length", "steps", "threads"):
        words += [f"--{name}", str(getattr(args, name))]
    words += ["--dropout", str(args.dropout)] if args.dropout is not None else []
    env = os.environ | {
        "OMP_NUM_THREADS": str(args.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    return json.loads(
        subprocess.run(words, check=True, stdout=subprocess.PIPE, env=env).stdout.splitlines()[-1]
    )


def train(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        trainer, resume = (ours if args.way.startswith("ours") else theirs)(args, folder)
        clock = timed(trainer)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        trainer.train(**resume)
    steps = [end - start for start, end in zip(clock.ends, clock.ends[1:])]
    cpu = [end - start for start, end in zip(clock.cpu, clock.cpu[1:])]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": steps,
        "cpu": cpu,
        "inside": clock.inside[1:],
        "loss": clock.losses[0],
        "peak_mb": peak / 1024,
        "grown_mb": (peak - before) / 1024,
    }


def timed(trainer: Any) -> Any:
    """A callback that notes when each step ended, and how long forward and backward took."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        ends: list[float] = []
        cpu: list[float] = []
        inside: list[float] = []
        losses: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())
            self.cpu.append(time.process_time())

    clock, step = Clock(), trainer.training_step

    def training_step(*words: Any, **names: Any) -> Any:
        start = time.process_time()
        loss = step(*words, **names)
        clock.inside.append(time.process_time() - start)
        clock.losses.append(loss.item())
        return loss

    trainer.training_step = training_step
    trainer.add_callback(clock)
    return clock


def ours(args: argparse.Namespace, folder: str) -> tuple[Any, dict[str, Any]]:
    from contrast_train import cli
    from contrast_train.run import ContrastRun
    from fletching.report import Report
    from fletching.train.metrics_log import MetricsLog
    from fletching.train.run_dir import RunDir

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    memory: dict[str, Any] = (
        {"activations": float(gigabytes)}
        if (gigabytes := args.way.removeprefix("ours").strip())
        else {}
    )
    options = cli.Options(
        inputs=(args.pairs,), model=args.model, output=f"{folder}/tuned", batch=args.batch, steps=args.steps,
        query_length=args.length, doc_length=args.length, dropout=args.dropout, dtype="bfloat16", save_every=10**6, **memory,
    )  # fmt: skip
    report, run = Report("bench", quiet=True), RunDir(f"{folder}/tuned")
    job = ContrastRun(options, report, cli.TOOL, run_path=run.path)
    log = MetricsLog(run.path_to("measures.jsonl"), report.progress("training"), 0)
    return job.trainer(run, log), {}


def theirs(args: argparse.Namespace, folder: str) -> tuple[Any, dict[str, Any]]:
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses
    from torch.utils.data import BatchSampler, SequentialSampler

    from contrast_train.data.batch_sampler import PlanSettings, plan

    model = SentenceTransformer(args.model, device="cpu")
    model.max_seq_length = args.length
    for module in model.modules() if args.dropout is not None else ():
        if isinstance(module, torch.nn.Dropout):
            module.p = args.dropout
    rows = [json.loads(line) for line in Path(args.pairs).read_text("utf-8").splitlines()]
    order = [
        row
        for batch in plan([None] * len(rows), PlanSettings(batch=args.batch))
        for _, row in batch
    ]
    pairs = Dataset.from_list(
        [{"anchor": rows[row]["query"], "positive": rows[row]["pos"][0]} for row in order]
    )
    loss = (
        losses.MultipleNegativesRankingLoss(model)
        if args.way == "mnrl"
        else losses.CachedMultipleNegativesRankingLoss(
            model, mini_batch_size=int(args.way.split()[1])
        )
    )
    settings = SentenceTransformerTrainingArguments(
        output_dir=folder,
        use_cpu=True,
        bf16=True,
        max_steps=args.steps,
        per_device_train_batch_size=args.batch,
        learning_rate=1e-4,
        warmup_steps=1,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        batch_sampler=lambda dataset, batch_size, drop_last, **_: BatchSampler(
            SequentialSampler(dataset), batch_size, drop_last
        ),
    )
    return SentenceTransformerTrainer(
        model=model, args=settings, train_dataset=pairs, loss=loss
    ), {}


def tell(args: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> None:
    import torch

    from fletching.encode.instruction_set import instruction_set

    print(
        f"{args.batch} pairs a batch, cut at {args.length} tokens, {max(map(len, found.values()))} rounds of {args.steps - 1} steps, {args.threads} thread(s), "
        f"dropout {'the model’s own' if args.dropout is None else args.dropout}, torch {torch.__version__}, "
        f"{instruction_set()}\n"
    )
    print(
        "| way | step, CPU s | step, wall s | times the first (CPU) | times the first (wall) | peak MB | outside forward and backward | first loss |"
    )
    print("|---|---|---|---|---|---|---|---|")
    middle = {
        way: {
            key: statistics.median(x for run in runs for x in run[key])
            for key in ("seconds", "cpu", "inside")
        }
        for way, runs in found.items()
    }
    first = next(iter(found))
    for way, runs in found.items():
        cpu, wall, inside = (middle[way][key] for key in ("cpu", "seconds", "inside"))
        faster = [f"{middle[way][key] / middle[first][key]:.2f}" for key in ("cpu", "seconds")]
        peak = statistics.median(run["peak_mb"] for run in runs)
        print(
            f"| {way} | {cpu:.2f} | {wall:.2f} | {faster[0]} | {faster[1]} | {peak:.0f} | {1 - inside / cpu:.1%} | {runs[0]['loss']:.4f} |"
        )


if __name__ == "__main__":
    main()
