"""A cross-encoder where none is at hand: trained on mined rows, each query with its positives (1) and hard negatives (0).

Reads the output of hnmine and any encoder; writes a folder that hnmine's --reranker and sentence-transformers' CrossEncoder
load. A cross-encoder that was trained on much more (MS MARCO) is a better teacher: take this one where there is none.

  python reranker.py mined.parquet MODEL OUT [--epochs 1] [--batch 32] [--length 192] [--lr 0.0001]
"""

import argparse
import sys
import tempfile
from typing import Any

import pyarrow.parquet as pq


def pairs(path: str) -> dict[str, list]:
    """Columns query, text, label: one row for each positive and each negative."""
    columns: dict[str, list] = {"query": [], "text": [], "label": []}
    for row in pq.read_table(path, columns=["query", "pos", "neg"]).to_pylist():
        for label, texts in ((1.0, row["pos"]), (0.0, row["neg"] or [])):
            for text in texts:
                for name, value in zip(columns, (row["query"], text, label)):
                    columns[name].append(value)
    return columns


def told(model: Any, columns: dict[str, list]) -> str:
    """How much higher positives score than negatives, on a sample of the rows that it was trained on."""
    from torch.nn import Identity

    found: dict[float, list[float]] = {1.0: [], 0.0: []}
    chosen = range(0, len(columns["query"]), max(len(columns["query"]) // 300, 1))
    asked = [(columns["query"][row], columns["text"][row]) for row in chosen]
    for row, score in zip(
        chosen, model.predict(asked, activation_fn=Identity(), show_progress_bar=False)
    ):
        found[columns["label"][row]].append(float(score))
    positives, negatives = (
        sum(scores) / max(len(scores), 1) for scores in (found[1.0], found[0.0])
    )
    return f"positives score {positives:.2f}, negatives {negatives:.2f}: if these are near, train longer or name another RERANKER"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("mined", "model", "out"):
        parser.add_argument(name)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=192, help="tokens of a pair")
    parser.add_argument("--lr", type=float, default=1e-4)
    args = parser.parse_args()

    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    from fletching.encode.model import resolve_devices, resolve_dtype
    from fletching.train.hardware import prepare_cpu

    torch.manual_seed(0)  # the classifier is new
    columns = pairs(args.mined)
    positives = sum(columns["label"])
    if not 0 < positives < len(columns["label"]):
        raise SystemExit(
            f"reranker.py: {args.mined} needs positives and negatives, and has {positives:.0f} of {len(columns['label'])}"
        )
    device = resolve_devices(None)[0]
    model = CrossEncoder(args.model, num_labels=1, max_length=args.length, device=device)
    if device == "cpu":
        prepare_cpu(model)
    weight = torch.tensor(len(columns["label"]) / positives - 1, device=model.device)
    with tempfile.TemporaryDirectory() as scratch:
        settings = CrossEncoderTrainingArguments(
            output_dir=scratch,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch,
            learning_rate=args.lr,
            warmup_steps=0.1,
            save_strategy="no",
            logging_steps=20,
            report_to=[],
            use_cpu=device == "cpu",
            bf16=resolve_dtype("auto", device) == torch.bfloat16,
            seed=0,
        )
        loss = BinaryCrossEntropyLoss(model, pos_weight=weight)
        CrossEncoderTrainer(
            model=model, args=settings, train_dataset=Dataset.from_dict(columns), loss=loss
        ).train()
    model.save_pretrained(args.out)
    print(f"reranker.py: {told(model, columns)}", file=sys.stderr)


if __name__ == "__main__":
    main()
