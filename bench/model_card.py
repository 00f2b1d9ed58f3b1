"""The card of contrast-train beside the one that sentence-transformers writes for the same rows.

  python bench/model_card.py --model MODEL [--keep FOLDER]

Twelve steps each on the same pairs, held-out figures before and after. Prints the sections of both
cards, side by side, and what the hub's parser reads in their front matter.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import ModelCard

TOPICS = ("invoice", "refund", "password", "delivery", "warranty", "account", "coupon", "address")
ACTIONS = ("change", "find", "cancel", "print", "check", "share", "delete", "restore")
WHERE = ("on my phone", "in the shop", "by mail", "at night")
FIELDS = ("base_model", "license", "language", "datasets", "tags", "pipeline_tag", "eval_results")
# Where both say the same under another heading: ours by theirs.
SAME = {
    "Model Details": "Model",
    "Model Description": "Model",
    "Full Model Architecture": "Architecture",
    "Direct Usage (Sentence Transformers)": "Usage",
    "Evaluation": "Held-out quality",
    "Metrics": "Held-out quality",
    "Training Details": "Training",
    "Training Dataset": "Training",
    "Evaluation Dataset": "Held-out quality",
    "Training Hyperparameters": "Hyperparameters",
    "Non-Default Hyperparameters": "Hyperparameters",
    "Training Logs": "Training log",
    "Framework Versions": "Versions",
}


def pairs() -> list[tuple[str, str]]:
    """256 questions with their answers, in a fixed order."""
    rows = [
        (
            f"How do I {action} the {topic} {where}?",
            f"To {action} the {topic} {where}, open {topic}s.",
        )
        for topic in TOPICS
        for action in ACTIONS
        for where in WHERE
    ]
    random.Random(0).shuffle(rows)
    return rows


def ours(folder: Path, model: str) -> str:
    """The card of contrast-train."""
    rows = pairs()
    for name, part in (("train", rows[:200]), ("dev", rows[200:])):
        table = pa.table({"query": [q for q, _ in part], "pos": [[a] for _, a in part]})
        pq.write_table(table, folder / f"{name}.parquet")
    line = ["contrast-train", "train.parquet", "--eval", "dev.parquet", "--eval-every", "4"]
    settings = ["--model", model, "--steps", "12", "--batch", "16", "--quiet"]
    subprocess.run([*line, *settings, "-o", "ours"], cwd=folder, check=True)
    return (folder / "ours/README.md").read_text("utf-8")


def theirs(folder: Path, model: str) -> str:
    """The card that SentenceTransformerTrainer writes."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    logging.disable(logging.WARNING)
    loaded = SentenceTransformer(model, device="cpu")
    rows = pairs()
    train, dev = rows[:200], rows[200:]
    evaluator = InformationRetrievalEvaluator(
        {str(n): q for n, (q, _) in enumerate(dev)},
        {str(n): a for n, (_, a) in enumerate(dev)},
        {str(n): {str(n)} for n in range(len(dev))},
        name="dev",
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=12,
        per_device_train_batch_size=16,
        learning_rate=1e-4,
        warmup_steps=1,
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = SentenceTransformerTrainer(
        model=loaded,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {"anchor": [q for q, _ in train], "positive": [a for _, a in train]}
        ),
        loss=MultipleNegativesRankingLoss(loaded),
        evaluator=evaluator,
    )
    trainer.train()
    loaded.save_pretrained(str(folder / "theirs"))
    return (folder / "theirs/README.md").read_text("utf-8")


def sections(card: str) -> dict[str, int]:
    """Words under each heading, without front matter and comments."""
    text = re.sub(r"<!--.*?-->", "", card.split("\n---\n", 1)[1], flags=re.DOTALL)
    parts = re.split(r"^#{2,4} (.+)$", text, flags=re.MULTILINE)
    return {name.strip(): len(body.split()) for name, body in zip(parts[1::2], parts[2::2])}


def field(card: str, name: str) -> str:
    value: Any = getattr(ModelCard(card).data, name, None)
    if name == "eval_results":
        return "" if value is None else f"{len(value)} figures"
    if isinstance(value, list) and len(value) > 6:
        return ", ".join(map(str, value[:6])) + f" and {len(value) - 6} more"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--keep", default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.keep or scratch)
        folder.mkdir(exist_ok=True)
        model = str(Path(given.model).resolve())
        mine, peers = ours(folder, model), theirs(folder, model)
    print("## Front matter\n\n| field | contrast-train | sentence-transformers |\n|---|---|---|")
    for name in FIELDS:
        print(f"| {name} | {field(mine, name)} | {field(peers, name)} |")
    print(
        "\n## Sections, with their words\n\n| sentence-transformers | contrast-train |\n|---|---|"
    )
    left = sections(mine)
    unmatched = dict(left)
    for name, words in sections(peers).items():
        twin = SAME.get(name, name)
        shown = f"{twin} ({left[twin]})" if twin in left else ""
        unmatched.pop(twin, None)
        print(f"| {name} ({words}) | {shown} |")
    for name, words in unmatched.items():
        print(f"| | {name} ({words}) |")
    print(f"\nWords in all: {len(peers.split()):,} and {len(mine.split()):,}.")


if __name__ == "__main__":
    main()
