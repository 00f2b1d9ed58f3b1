"""The options of contrast-train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from contrast_train import foreign_option_names
from fletching.options import (
    IO,
    MODEL,
    TRAINING,
    ExamplesOptions,
    RequiredModelOptions,
    SeedOptions,
    StandardOptions,
    TrainingOptions,
    option,
    positional,
)

LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Options(ExamplesOptions, RequiredModelOptions, TrainingOptions, SeedOptions, StandardOptions):
    FOREIGN_NAMES: ClassVar = foreign_option_names.FOREIGN_NAMES
    inputs: tuple[str, ...] = positional(
        "examples, or texts for SimCSE: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin",
        "EXAMPLES",
    )
    output: str | None = option(
        None,
        "the folder of the trained model (required but for --dry-run)",
        metavar="DIR",
        short="-o",
        group=IO,
        rows=False,
    )
    eval: str | None = option(
        None,
        "held-out examples: nDCG@10 and MRR@10 before, during and after; the best weights are kept",
        metavar="FILE",
        group=IO,
    )
    dry_run: bool = option(
        False,
        "print the plan, cut texts, masked pairs and an estimate of time, then stop",
        group=TRAINING,
        rows=False,
    )
    batch: int = option(
        128,
        "rows in a global batch; memory does not grow with it",
        metavar="N",
        low=2,
        group=TRAINING,
    )
    negatives: int | None = option(
        None,
        "hard negatives a row, drawn anew each epoch [all it has]",
        metavar="K",
        low=0,
        group=TRAINING,
    )
    epochs: float | None = option(
        None, "passes over the rows [1]", metavar="N", low=0.001, group=TRAINING
    )
    steps: int | None = option(
        None, "global batches, instead of --epochs", metavar="N", low=1, group=TRAINING
    )
    lr: float = option(
        1e-4,
        "highest learning rate (AdamW); 2e-5 for models of 300 million weights and more",
        metavar="X",
        low=0,
        group=TRAINING,
    )
    weight_decay: float = option(
        0.01, "AdamW's weight decay", metavar="X", low=0, group=TRAINING, advanced=True
    )
    positives: Literal["sample", "all"] | None = option(
        None,
        "one positive a row, drawn anew each epoch, or all of them [sample; a loss over scores takes all in any case]",
        metavar="sample|all",
        group=TRAINING,
        advanced=True,
    )
    min_score: float | None = option(
        None,
        "a positive whose label, reranker or judge score is below X is none",
        metavar="X",
        group=TRAINING,
        advanced=True,
    )
    tasks: str | None = option(
        None,
        "weight, query-prompt and doc-prompt of each task: JSON, YAML or TOML",
        metavar="FILE",
        group=TRAINING,
        rows=False,
    )
    task_temperature: float | None = option(
        None,
        "rows of a task in an epoch ~ (weight x rows)^(1/T); above 1 small tasks gain",
        metavar="T",
        low=0.1,
        group=TRAINING,
        advanced=True,
    )
    task_cap: int | None = option(
        None,
        "at most so many rows of a task in an epoch, another part each time",
        metavar="N",
        low=1,
        group=TRAINING,
        advanced=True,
    )
    mix_tasks: bool = option(
        False, "let rows of several tasks share a batch", group=TRAINING, advanced=True
    )
    drop_last: bool = option(
        False, "leave out the smaller last batches of each epoch", group=TRAINING, advanced=True
    )
    prompt_template: str | None = option(
        None,
        "what the `prompt` of a row is put into, at {}, e.g. 'Instruct: {}, query: '",
        metavar="TEXT",
        group=TRAINING,
        advanced=True,
    )
    prompt_pooling: Literal["include", "exclude"] | None = option(
        None,
        "tokens of prompts in or out of pooling [the model's own]",
        metavar="include|exclude",
        group=TRAINING,
        advanced=True,
    )
    dropout: float | None = option(
        None,
        "share of activations dropped in training; 0 is 1.6 times as fast on a CPU [the model's own]",
        metavar="X",
        low=0,
        high=0.9,
        group=TRAINING,
        advanced=True,
    )
    activations: float = option(
        0.5,
        "memory for activations that are not computed twice, in GB; a step that keeps all is 1.2 times as fast as with 0",
        metavar="GB",
        low=0,
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    eval_every: int | None = option(
        None,
        "steps between evaluations [a quarter of the run]",
        metavar="N",
        low=1,
        group=TRAINING,
        advanced=True,
    )
    accumulate: int = option(
        1,
        "global batches an update: the mean of their gradients, each with its own negatives",
        metavar="K",
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
    blend: str | None = option(
        None,
        "the model is W parts tuned, 1 - W parts base; auto: the best W on --eval",
        metavar="W|auto",
        group=TRAINING,
        advanced=True,
    )
    pooling: Literal["cls", "mean", "last", "weighted"] | None = option(
        None,
        "how a bare transformer makes one vector [mean; last token if causal]",
        group=MODEL,
        advanced=True,
    )
    lora: bool = option(
        False, "train small matrices beside frozen weights, merged at the end", group=TRAINING
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
    lora_targets: tuple[str, ...] = option(
        (),
        "layers that get them, e.g. q_proj,v_proj [every linear one]",
        metavar="NAME,NAME",
        group=TRAINING,
        advanced=True,
    )
    lora_merge: bool = option(
        True,
        "the folder holds the adapter alone and needs the base model; else they are added to the weights at the end",
        group=TRAINING,
        advanced=True,
    )
    lora_4bit: bool = option(
        False,
        "keep the frozen weights in 4 bits (QLoRA, by bitsandbytes)",
        group=TRAINING,
        advanced=True,
    )
    gradient_checkpointing: bool = option(
        False,
        "keep the input of each layer only and compute it again: less memory, a third slower",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    loss: (
        Literal["infonce", "triplet", "kl", "infonce+kl", "margin-mse", "cosent", "simcse"] | None
    ) = option(
        None,
        "infonce, triplet, kl, infonce+kl, margin-mse, cosent (labels) or simcse (texts) [by what the rows carry; it is said]",
        metavar="L",
        group=LOSS,
    )
    temperature: float | None = option(
        None,
        "similarities are divided by it [0.05; 1 for dot products and margin-mse]",
        metavar="T",
        low=1e-4,
        group=LOSS,
    )
    learn_temperature: bool = option(
        False,
        "train the temperature too, at 50 x --lr, from where --temperature puts it",
        group=LOSS,
        advanced=True,
    )
    similarity: Literal["cosine", "dot"] | None = option(
        None,
        "of normalised vectors or not; saved in the model [the model's own]",
        metavar="cosine|dot",
        group=LOSS,
        advanced=True,
    )
    symmetric: bool = option(False, "InfoNCE: rank queries for each document as well", group=LOSS)
    candidates: Literal["all", "positives", "hard", "own"] = option(
        "all",
        "InfoNCE negatives: all documents of the batch; own hard negatives and everyone's positives; everyone's hard "
        "negatives; own hard negatives alone",
        group=LOSS,
        advanced=True,
    )
    query_negatives: bool = option(
        False, "InfoNCE: the other queries are negatives too", group=LOSS, advanced=True
    )
    guide: str | None = option(
        None,
        "InfoNCE: a model that masks false negatives, what it finds as near as the positive",
        metavar="MODEL",
        group=LOSS,
    )
    guide_margin: float = option(
        0.0,
        "mask above the positive's similarity by the guide - X",
        metavar="X",
        low=-2,
        high=2,
        group=LOSS,
        advanced=True,
    )
    guide_relative: bool = option(
        False, "mask above that similarity x (1 - X)", group=LOSS, advanced=True
    )
    margin: float = option(
        0.2,
        "triplet: how much nearer a positive must be than a hard negative",
        metavar="X",
        low=0,
        high=2,
        group=LOSS,
        advanced=True,
    )
    teacher_temperature: float = option(
        1.0,
        "kl, margin-mse: the teacher's scores are divided by it",
        metavar="T",
        low=1e-4,
        group=LOSS,
        advanced=True,
    )
    kl_weight: float = option(
        1.0, "infonce+kl: weight of the second part", metavar="X", low=0, group=LOSS, advanced=True
    )
    matryoshka: tuple[int, ...] = option(
        (),
        "take the loss on these first dimensions too, e.g. 64,128,384",
        metavar="D,D",
        low=1,
        group=LOSS,
    )
    matryoshka_weights: tuple[float, ...] = option(
        (),
        "weights of these dimensions [equal ones]",
        metavar="W,W",
        low=1e-6,
        group=LOSS,
        advanced=True,
    )
    matryoshka_layer: bool = option(
        False,
        "add a linear layer to the largest of these dimensions, saved in the model",
        group=LOSS,
        advanced=True,
    )
