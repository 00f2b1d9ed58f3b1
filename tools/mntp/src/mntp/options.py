"""The options of mntp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    LORA,
    MODEL,
    TRAINING,
    DeviceOptions,
    DistributedOptions,
    EvaluationOptions,
    LimitOptions,
    LoraOptions,
    PoolingOptions,
    SeedOptions,
    StandardOptions,
    TrainingOptions,
    option,
    override,
    positional,
    required,
)

MASKING = "masking"


@dataclass(frozen=True, kw_only=True)
@override(
    "eval",
    None,
    because="the evaluation predicts masked tokens, so that it reads texts and not examples",
    help="held-out texts: loss and accuracy on their masked tokens before, during and after",
)
@override(
    "batch",
    32,
    because="LLM2Vec's recipe: 32 sequences of 512 tokens a step",
    help="blocks of --length tokens in a global batch",
    low=1,
)
@override(
    "epochs",
    None,
    because="a run is 1,000 steps by default, as LLM2Vec's",
    help="passes over the texts, instead of --steps",
)
@override(
    "steps",
    None,
    because="a run is 1,000 steps by default, as LLM2Vec's; 0 makes an encoder without training",
    help="optimiser steps; 0: make the model bidirectional and save it [1000]",
    low=0,
)
@override("lr", 5e-5, because="LLM2Vec's recipe")
@override("warmup", 0.0, because="LLM2Vec's recipe")
@override("weight_decay", 0.0, because="LLM2Vec's recipe")
@override(
    "lora",
    True,
    because="LLM2Vec's recipe; decoders are large, and their weights stay close to the base model",
    help="train all weights but those of the language-model head, instead of LoRA adapters",
)
@override(
    "pooling",
    None,
    because="the decoder is no longer causal, so that the mean is the default of all models",
    help="pooling of the encoder [mean]",
)
class Options(
    LimitOptions,
    PoolingOptions,
    DeviceOptions,
    LoraOptions,
    DistributedOptions,
    EvaluationOptions,
    TrainingOptions,
    SeedOptions,
    StandardOptions,
):
    """The command line of mntp."""

    inputs: tuple[str, ...] = positional(
        "texts or examples (Parquet, Arrow, JSONL: files, folders, globs, URLs), or .txt files; "
        "none or - is stdin",
        "TEXTS",
    )
    lines: bool = option(
        False,
        "treat each line of a .txt file as a text, instead of the whole file",
        group=IO,
        advanced=True,
    )
    model: str = required(
        "decoder with its language-model head, or encoder: a folder or a hub name",
        metavar="M",
        group=MODEL,
        is_model=True,
    )
    adapters: tuple[str, ...] = option(
        (),
        "LoRA adapters to merge into the model first, in this order: LLM2Vec's",
        metavar="DIR,DIR",
        group=MODEL,
        is_model=True,
    )
    attention: Literal["sdpa", "eager"] | None = option(
        None,
        "attention kernel [eager on CPUs, elsewhere the model's own]",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    length: int = option(
        512,
        "tokens in a block; longer texts are split into several pieces",
        metavar="N",
        low=8,
        group=TRAINING,
    )
    pack: bool = option(
        True,
        "one text a block, instead of packing short texts that do not attend to each other",
        group=TRAINING,
    )
    mask_prob: float = option(
        0.2, "masking probability of a token", metavar="P", low=0.001, high=1, group=MASKING
    )
    masking: Literal["mlm", "all"] = option(
        "mlm",
        "mlm: replace 80 % of the masked tokens by the mask token, 10 % by a random token, keep "
        "10 %; all: replace 100 %",
        group=MASKING,
    )
    mask_token: str | None = option(
        None,
        "mask token, added to the vocabulary where it is missing [the model's own; else _; else "
        "its end of text]",
        metavar="TEXT",
        group=MASKING,
    )
    lora_dropout: float = option(
        0.05,
        "dropout probability of the adapters' inputs",
        metavar="X",
        low=0,
        high=0.9,
        group=LORA,
        advanced=True,
    )
