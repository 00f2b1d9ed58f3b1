"""Tokens a second of mntp against a plain Hugging Face Trainer: the same model, the same texts, one process.

  python bench/mntp_speed.py TEXTS.jsonl [--layers 2] [--width 256] [--steps 1]

TEXTS.jsonl: rows with `text`, of which pieces of mixed lengths are taken, as examples/code-search/sources.py writes them.
The plain loop: causal-to-bidirectional by the same attribute, transformers' Trainer, texts padded to the longest of a batch, each
cut at the same length, 20 % masked by DataCollatorForLanguageModeling, logits of every token, all weights but
the head's trained. Both loops take turns in one process on one thread; what counts is text tokens (no padding) a
second of process time, the best of three. Prints a table for results/.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import bare_models
import torch
import transformers

from fletching.report import Report
from mntp import attention
from mntp.block_plan import Plan
from mntp.masking import Masking
from mntp.objective import Collator, Objective
from mntp.token_store import Pieces, spool
from mntp.trainer import backward

LENGTH, BATCH, VOCABULARY, TEXTS = 256, 32, 32_000, 240


def network(layers: int, width: int) -> Any:
    config = transformers.LlamaConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, num_key_value_heads=width // 64,
        intermediate_size=3 * width, vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    ).train()
    attention.turn(model)
    model.lm_head.requires_grad_(False)
    return model


def ours(texts: list[str], model: Any, steps: int, packed: bool) -> float:
    tokenizer = bare_models.tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        spool(
            [[[text] for text in texts]],
            tokenizer,
            f"{folder}/t.arrow",
            Report("bench", quiet=True),
        )
        pieces = Pieces(f"{folder}/t.arrow", tokenizer, LENGTH)
        collate = Collator(pieces, Masking(0.2, (0.8, 0.1), 5, 259, pieces.special, 0))
        batches = list(Plan(pieces.sizes, LENGTH, BATCH, 0, steps, packed))
        objective, optimizer = (
            Objective(model),
            torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True),
        )
        start, tokens = time.process_time(), 0
        for batch in batches:
            made = collate(batch)
            tokens += len(made["ids"])
            backward(objective, objective, made, 2048, torch.device("cpu"))
            optimizer.step()
            optimizer.zero_grad()
        return tokens / (time.process_time() - start)


def plain(texts: list[str], model: Any, steps: int) -> float:
    tokenizer = bare_models.tokenizer()
    tokenizer.mask_token = "_"
    rows = [
        {"input_ids": ids}
        for ids in tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
    ]
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.2)
    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            folder, use_cpu=True, max_steps=steps, per_device_train_batch_size=BATCH // 4, gradient_accumulation_steps=4,
            optim="adamw_torch_fused", report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        counted = 0

        def counting(batch: list[dict[str, Any]]) -> Any:
            nonlocal counted
            counted += sum(len(row["input_ids"]) for row in batch)
            return collate(batch)

        trainer = transformers.Trainer(
            model=model, args=args, train_dataset=rows, data_collator=counting
        )
        trainer.remove_callback(transformers.PrinterCallback)
        start = time.process_time()
        trainer.train()
        return counted / (time.process_time() - start)


def cuts(texts: Iterable[str]) -> Iterator[str]:
    """Pieces of 100 to 1,000 characters, at most four of a text."""
    for number, text in enumerate(texts):
        start = 0
        for piece in range(4):
            size = 100 + (4 * number + piece) * 337 % 900
            if start + size > len(text):
                break
            yield text[start : start + size]
            start += size


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("texts")
    for name, value in (("layers", 2), ("width", 256), ("steps", 1)):
        arguments.add_argument(f"--{name}", type=int, default=value)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    with open(given.texts, encoding="utf-8") as file:
        whole = list(islice(cuts(json.loads(line)["text"] for line in file), TEXTS))
    print(
        "| texts | plain Trainer | mntp, a text a row | mntp, packed | packed / plain | packed / a text a row |\n|---|---|---|---|---|---|"
    )
    for name, texts in (
        ("whole", whole),
        ("short: 20 to 120 bytes", [text[: 20 + 7 * i % 100] for i, text in enumerate(whole)]),
    ):
        best = [0.0, 0.0, 0.0]
        for _ in range(3):
            model = network(given.layers, given.width)
            found = (
                plain(texts, model, given.steps),
                ours(texts, model, given.steps, False),
                ours(texts, model, given.steps, True),
            )
            best = [max(pair) for pair in zip(best, found)]
        print(
            f"| {name} | {best[0]:,.0f} | {best[1]:,.0f} | {best[2]:,.0f} | {best[2] / best[0]:.2f} | {best[2] / best[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
