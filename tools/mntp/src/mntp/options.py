"""The options of mntp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    MODEL,
    TRAINING,
    SeedOptions,
    StandardOptions,
    TrainingOptions,
    option,
    positional,
    required,
)

MASKING = "masking"


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions, SeedOptions, StandardOptions):
    inputs: tuple[str, ...] = positional(
        "texts or examples (Parquet, Arrow, JSONL: files, folders, globs, URLs), or .txt files; none or - is stdin",
        "TEXTS",
    )
    limit: int | None = option(
        None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True
    )
    lines: bool = option(
        False,
        "each line of a .txt file is a text of its own, not the whole file",
        group=IO,
        advanced=True,
    )
    output: str | None = option(
        None,
        "the folder of the encoder (required but for --dry-run)",
        metavar="DIR",
        short="-o",
        group=IO,
        rows=False,
    )
    eval: str | None = option(
        None,
        "held-out texts: loss and accuracy on their masked tokens before, during and after",
        metavar="FILE",
        group=IO,
    )
    dry_run: bool = option(
        False, "print the plan and an estimate of time, then stop", group=TRAINING, rows=False
    )
    model: str = required(
        "decoder with its language-model head: a folder or a hub name", metavar="M", group=MODEL
    )
    adapters: tuple[str, ...] = option(
        (),
        "LoRA adapters to merge into it first, in this order: LLM2Vec's",
        metavar="DIR,DIR",
        group=MODEL,
    )
    length: int = option(
        512,
        "tokens of a block; longer texts go on in another piece",
        metavar="N",
        low=8,
        group=TRAINING,
    )
    pack: bool = option(
        True,
        "one text a row; else short texts share a block, where none sees another",
        group=TRAINING,
    )
    batch: int = option(32, "blocks in a global batch", metavar="N", low=1, group=TRAINING)
    steps: int | None = option(
        None,
        "global batches; 0: turn the model and save it [1000]",
        metavar="N",
        low=0,
        group=TRAINING,
    )
    epochs: float | None = option(
        None, "passes over the texts, instead of --steps", metavar="N", low=0.001, group=TRAINING
    )
    lr: float = option(5e-5, "highest learning rate (AdamW)", metavar="X", low=0, group=TRAINING)
    warmup: float = option(
        0.0,
        "steps of rising learning rate; below 1: a share of the run",
        metavar="X",
        low=0,
        group=TRAINING,
        advanced=True,
    )
    weight_decay: float = option(
        0.0, "AdamW's weight decay", metavar="X", low=0, group=TRAINING, advanced=True
    )
    eval_every: int | None = option(
        None,
        "steps between evaluations [a quarter of the run]",
        metavar="N",
        low=1,
        group=TRAINING,
        advanced=True,
    )
    fsdp: bool = option(
        False,
        "under torchrun, share weights, gradients and optimiser out among the processes (FSDP2)",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    deepspeed: str | None = option(
        None,
        "under torchrun, the same by DeepSpeed: optimiser (zero1), gradients too (zero2), weights too (zero3), or its config",
        metavar="zero1|zero2|zero3|FILE",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    gradient_checkpointing: bool = option(
        False,
        "keep the input of each layer only and compute it again: less memory, a third slower",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    mask_prob: float = option(
        0.2, "share of the tokens that are masked", metavar="P", low=0.001, high=1, group=MASKING
    )
    masking: Literal["mlm", "all"] = option(
        "mlm",
        "mlm: of the masked, 80 % become the mask token, 10 % any token, 10 % stay; all: 100 %",
        group=MASKING,
    )
    mask_token: str | None = option(
        None,
        "added to the vocabulary where it is not there [the model's own; else _; else its end of text]",
        metavar="TEXT",
        group=MASKING,
    )
    lora: bool = option(
        True,
        "train all weights but the head's; else small matrices beside them, which stay frozen",
        group=TRAINING,
    )
    lora_rank: int = option(
        16, "columns of these matrices", metavar="N", low=1, group=TRAINING, advanced=True
    )
    lora_alpha: float | None = option(
        None,
        "their product is scaled by alpha / rank [2 x rank]",
        metavar="X",
        low=0,
        group=TRAINING,
        advanced=True,
    )
    lora_dropout: float = option(
        0.05,
        "share of their inputs dropped in training",
        metavar="X",
        low=0,
        high=0.9,
        group=TRAINING,
        advanced=True,
    )
    lora_targets: tuple[str, ...] = option(
        (),
        "layers that get them, e.g. q_proj,v_proj [every linear one]",
        metavar="NAME,NAME",
        group=TRAINING,
        advanced=True,
    )
    lora_merge: bool = option(
        True,
        "the folder holds the adapter and, in base/, the model; else they are added to the weights at the end",
        group=TRAINING,
        advanced=True,
    )
    pooling: Literal["cls", "mean", "last", "weighted"] | None = option(
        None, "how the encoder makes one vector of a text [mean]", group=MODEL, advanced=True
    )
    attention: Literal["sdpa", "eager"] | None = option(
        None,
        "attention kernel [eager on CPUs, elsewhere the model's own]",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    batch_tokens: int | None = option(
        None,
        "tokens in one forward pass [by hardware]",
        metavar="N",
        low=1,
        group=MODEL,
        advanced=True,
        rows=False,
    )
    device: str | None = option(
        None,
        "cpu, cuda, cuda:1, mps [the best there is]",
        metavar="D",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "number type of the model", group=MODEL, advanced=True
    )
    trust_remote_code: bool = option(
        False, "let the model's folder run its own Python", group=MODEL, advanced=True, rows=False
    )
