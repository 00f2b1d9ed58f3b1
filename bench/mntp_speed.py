"""Tokens a second of mntp against a plain Hugging Face Trainer: the same model, the same texts, one process.

  python bench/mntp_speed.py TEXTS.jsonl [--layers 2] [--width 256] [--steps 1]

TEXTS.jsonl: rows with `text`, of which pieces of mixed lengths are taken, as
examples/code-search/sources.py writes them. The plain loop: bidirectional by the same attribute,
transformers' Trainer, texts padded to the longest of a batch, each truncated at the same length,
20 % masked by DataCollatorForLanguageModeling, logits of every token, all weights but the head's
trained. Both loops take turns in one process on one thread; what counts is text tokens (no padding)
a second of process time, the best of three. Prints a table for results/.
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
from mntp.block_plan import BlockPlan
from mntp.masking import TokenMasking
from mntp.objective import MntpCollator, MntpObjective
from mntp.token_store import TokenPieces, tokenize_to_disk
from mntp.trainer import backward

LENGTH, BATCH, VOCABULARY, TEXTS = 256, 32, 32_000, 240
ROUNDS = 3


def network(layers: int, width: int) -> Any:
    """A small bidirectional Llama whose head is frozen."""
    config = transformers.LlamaConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, num_key_value_heads=width // 64,
        intermediate_size=3 * width, vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    ).train()
    attention.make_bidirectional(model)
    model.lm_head.requires_grad_(False)
    return model


def mntp_speed(texts: list[str], model: Any, steps: int, *, packed: bool) -> float:
    """Tokens a second of mntp's training step."""
    tokenizer = bare_models.tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        path, report = f"{folder}/rows.arrow", Report("bench", quiet=True)
        tokenize_to_disk([[[text] for text in texts]], tokenizer, path, report=report)
        pieces = TokenPieces(path, tokenizer, LENGTH)
        masking = TokenMasking(
            probability=0.2,
            replaced=(0.8, 0.1),
            mask_id=5,
            vocabulary=259,
            special=pieces.special,
            seed=0,
        )
        collate = MntpCollator(pieces, masking)
        plan = BlockPlan(
            sizes=pieces.sizes, length=LENGTH, batch=BATCH, seed=0, steps=steps, packed=packed
        )
        batches = list(plan)
        objective = MntpObjective(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        start, tokens = time.process_time(), 0
        for blocks in batches:
            batch = collate(blocks)
            tokens += len(batch["ids"])
            backward(objective, objective, batch, budget=2048, device=torch.device("cpu"))
            optimizer.step()
            optimizer.zero_grad()
        return tokens / (time.process_time() - start)


def trainer_speed(texts: list[str], model: Any, steps: int) -> float:
    """Tokens a second of transformers' Trainer."""
    tokenizer = bare_models.tokenizer()
    tokenizer.mask_token = "_"
    ids_of_texts = tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
    rows = [{"input_ids": ids} for ids in ids_of_texts]
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.2)
    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            folder, use_cpu=True, max_steps=steps, per_device_train_batch_size=BATCH // 4, gradient_accumulation_steps=4,
            optim="adamw_torch_fused", report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        tokens = 0

        def count_and_collate(batch: list[dict[str, Any]]) -> Any:
            nonlocal tokens
            tokens += sum(len(row["input_ids"]) for row in batch)
            return collate(batch)

        trainer = transformers.Trainer(
            model=model, args=args, train_dataset=rows, data_collator=count_and_collate
        )
        trainer.remove_callback(transformers.PrinterCallback)
        start = time.process_time()
        trainer.train()
        return tokens / (time.process_time() - start)


def pieces_of(texts: Iterable[str]) -> Iterator[str]:
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
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts")
    for name, default in (("layers", 2), ("width", 256), ("steps", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    with open(args.texts, encoding="utf-8") as file:
        whole = list(islice(pieces_of(json.loads(line)["text"] for line in file), TEXTS))
    short = [text[: 20 + 7 * i % 100] for i, text in enumerate(whole)]
    print(
        "| texts | plain Trainer | mntp, a text a row | mntp, packed | packed / plain | packed / a text a row |"
    )
    print("|---|---|---|---|---|---|")
    for name, texts in (("whole", whole), ("short: 20 to 120 bytes", short)):
        rounds = []
        for _ in range(ROUNDS):
            model = network(args.layers, args.width)
            rounds.append(
                (
                    trainer_speed(texts, model, args.steps),
                    mntp_speed(texts, model, args.steps, packed=False),
                    mntp_speed(texts, model, args.steps, packed=True),
                )
            )
        plain, unpacked, packed = (max(speeds) for speeds in zip(*rounds))
        print(
            f"| {name} | {plain:,.0f} | {unpacked:,.0f} | {packed:,.0f} "
            f"| {packed / plain:.2f} | {packed / unpacked:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
