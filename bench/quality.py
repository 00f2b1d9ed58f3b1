"""Retrieval quality after equally many steps: contrast-train against sentence-transformers' recipe with MultipleNegativesRankingLoss.

  python bench/quality.py ROWS.parquet --model all-MiniLM-L6-v2 --test '--examples named=test.parquet' --work FOLDER
      [--batch 64] [--steps 30] [--lr 1e-4] [--length 128] [--dropout 0] [--seeds 0] [--part ours|theirs|test]

Both train on the same rows of `examples` (their first positive, their first hard negative; rows without one are left out)
with the same base model, batch, steps, learning rate (linear, a tenth of warming up), weight decay, clipping, temperature,
length, dropout, bfloat16. The peer is its documented recipe: SentenceTransformerTrainer, NO_DUPLICATES batches. What differs is
what each makes of the rows: its batches, and which documents of a batch count as negatives. mteb-eval compares ours with
theirs, then all with the base model. Folders that stand in --work are not made again, and --part makes one part alone.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.pop(0)  # this folder, where contrast_train.py would stand for the tool of its name


def main() -> None:
    args = arguments()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    if args.child is not None:
        train_theirs(args, args.child)
        return
    rows = prepared(args)
    os.environ["HF_HUB_OFFLINE"] = os.environ["OMP_NUM_THREADS"] = "1"
    for seed in map(int, args.seeds.split(",")):
        for way, command in (
            ("ours", ours(args, rows, seed)),
            ("theirs", [sys.executable, *sys.argv, "--child", str(seed)]),
        ):
            if args.part in (None, way) and not (work / f"{way}-{seed}").exists():
                start = time.monotonic()
                subprocess.run(command, check=True)
                print(
                    f"{way}-{seed}: trained in {time.monotonic() - start:.0f} s of wall-clock time",
                    file=sys.stderr,
                    flush=True,
                )
    if args.part in (None, "test"):
        compare(args, work)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows")
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--test", required=True, help="what mteb-eval shall measure, in one word of the shell"
    )
    parser.add_argument("--work", required=True, help="folder of models and vectors")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--part", choices=["ours", "theirs", "test"])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def prepared(args: argparse.Namespace) -> str:
    """The rows that both train on: a query, one positive, one hard negative."""
    path = Path(args.work, "rows.parquet")
    rows = pq.read_table(args.rows, columns=["query", "pos", "neg"]).to_pylist()
    kept = [
        {"query": row["query"], "pos": row["pos"][:1], "neg": row["neg"][:1]}
        for row in rows
        if row["neg"]
    ]
    print(
        f"{len(kept):,} of {len(rows):,} rows have a hard negative; {args.steps * args.batch / len(kept):.1f} passes",
        file=sys.stderr,
    )
    pq.write_table(pa.Table.from_pylist(kept), path)
    return str(path)


def ours(args: argparse.Namespace, rows: str, seed: int) -> list[str]:
    return shlex.split(
        f"contrast-train {rows} --model {args.model} -o {args.work}/ours-{seed} --batch {args.batch} --steps {args.steps} --lr {args.lr} "
        f"--query-length {args.length} --doc-length {args.length} --dropout {args.dropout} --seed {seed} --warmup 0.1 --weight-decay 0.01 "
        f"--clip 1 --temperature 0.05 --loss infonce --dtype bfloat16"
    )


def train_theirs(args: argparse.Namespace, seed: int) -> None:
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.training_args import BatchSamplers
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    rows = pq.read_table(f"{args.work}/rows.parquet").to_pylist()
    columns = [
        {"anchor": row["query"], "positive": row["pos"][0], "negative": row["neg"][0]}
        for row in rows
    ]
    model = SentenceTransformer(args.model, device="cpu")
    whole_length, model.max_seq_length = model.max_seq_length, args.length
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = args.dropout
    settings = SentenceTransformerTrainingArguments(
        output_dir=f"{args.work}/theirs-{seed}.run", use_cpu=True, bf16=True, seed=seed, max_steps=args.steps,
        per_device_train_batch_size=args.batch, learning_rate=args.lr, warmup_steps=max(round(0.1 * args.steps), 1), weight_decay=0.01,
        max_grad_norm=1.0, lr_scheduler_type="linear", batch_sampler=BatchSamplers.NO_DUPLICATES, logging_steps=5,
        save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    SentenceTransformerTrainer(
        model=model, args=settings, train_dataset=Dataset.from_list(columns), loss=loss
    ).train()
    model.max_seq_length = whole_length
    model.save_pretrained(f"{args.work}/theirs-{seed}", create_model_card=False)


def compare(args: argparse.Namespace, work: Path) -> None:
    """Ours of each seed against theirs, then all against the base model."""
    seeds = args.seeds.split(",")
    tested = [*shlex.split(args.test), "--cache", str(work / "vectors"), "--metrics", "ndcg_at_10"]
    named = {
        way: [f"{way}-{seed}={work}/{way}-{seed}" for seed in seeds] for way in ("ours", "theirs")
    }
    for theirs, own in zip(named["theirs"], named["ours"]):
        subprocess.run(["mteb-eval", theirs, own, *tested], check=True)
    subprocess.run(
        ["mteb-eval", f"base={args.model}", *named["theirs"], *named["ours"], *tested], check=True
    )


if __name__ == "__main__":
    main()
