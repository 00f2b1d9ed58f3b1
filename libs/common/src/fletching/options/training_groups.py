"""Options of tools that train. One for all trainers is added to `TrainingOptions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fletching.options.fields import option
from fletching.options.headings import IO, LORA, LOSS, RUN, TRAINING


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """A tool that trains: the length of the run, the optimiser, checkpoints and loggers."""

    INSTEAD: ClassVar = (("epochs", "steps"),)

    output: str | None = option(
        None,
        "folder of the trained model (required, except with --dry-run)",
        metavar="DIR",
        short="-o",
        group=IO,
        rows=False,
        written=True,
    )
    dry_run: bool = option(
        False,
        "print the plan, truncated texts and an estimate of the time, then stop",
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
    epochs: float | None = option(
        None, "passes over the rows [1]", metavar="N", low=0.001, group=TRAINING
    )
    steps: int | None = option(
        None, "optimiser steps, instead of --epochs", metavar="N", low=1, group=TRAINING
    )
    lr: float = option(
        1e-4,
        "peak learning rate (AdamW)",
        metavar="X",
        low=0,
        group=TRAINING,
    )
    weight_decay: float = option(
        0.01, "weight decay (AdamW)", metavar="X", low=0, group=TRAINING, advanced=True
    )
    warmup: float = option(
        0.1,
        "learning-rate warmup in steps; below 1: a fraction of the run",
        metavar="X",
        low=0,
        group=TRAINING,
        advanced=True,
    )
    schedule: Literal["linear", "cosine", "constant"] = option(
        "linear", "learning-rate schedule after the warmup", group=TRAINING, advanced=True
    )
    clip: float = option(
        1.0,
        "clip the gradient norm at X; 0: never",
        metavar="X",
        low=0,
        group=TRAINING,
        advanced=True,
    )
    save_every: int | None = option(
        None,
        "steps between checkpoints [a tenth of the run]",
        metavar="N",
        low=1,
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    keep_checkpoints: int = option(
        2,
        "checkpoints to keep, besides the best one",
        metavar="N",
        low=1,
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    report_to: tuple[str, ...] = option(
        (),
        "experiment loggers: tensorboard, wandb, trackio, mlflow …",
        metavar="NAME,NAME",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    translate: str | None = option(
        None,
        "print the --config for another trainer's config or script, then stop",
        metavar="FILE",
        group=RUN,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """A tool that evaluates while it trains."""

    eval: str | None = option(
        None,
        "held-out rows, evaluated before, during and after training",
        metavar="FILE",
        group=IO,
    )
    eval_every: int | None = option(
        None,
        "steps between evaluations [a quarter of the run]",
        metavar="N",
        low=1,
        group=TRAINING,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class RegularizationOptions:
    """A tool that trains a whole network whose activations may be recomputed."""

    dropout: float | None = option(
        None,
        "dropout probability [the model's own]",
        metavar="X",
        low=0,
        high=0.9,
        group=TRAINING,
        advanced=True,
    )
    activations: float | None = option(
        None,
        "memory for activations that the backward pass need not recompute, in GB [half of "
        "what is free]",
        metavar="GB",
        low=0,
        group=TRAINING,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class DistributedOptions:
    """A tool that shards weights among the processes of torchrun."""

    fsdp: bool = option(
        False,
        "under torchrun, shard weights, gradients and optimiser states (FSDP2)",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    deepspeed: str | None = option(
        None,
        "under torchrun, DeepSpeed ZeRO stage or config file",
        metavar="zero1|zero2|zero3|FILE",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    gradient_checkpointing: bool = option(
        False,
        "recompute each layer in the backward pass: less memory, a third slower",
        group=TRAINING,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """A tool that can train LoRA adapters (Hu et al. 2021) beside frozen weights."""

    lora: bool = option(False, "train LoRA adapters beside frozen weights", group=LORA)
    lora_rank: int = option(16, "LoRA rank", metavar="N", low=1, group=LORA, advanced=True)
    lora_alpha: float | None = option(
        None,
        "LoRA alpha; updates are scaled by alpha / rank [2 x rank]",
        metavar="X",
        low=0,
        group=LORA,
        advanced=True,
    )
    lora_targets: tuple[str, ...] = option(
        (),
        "modules with adapters, e.g. q_proj,v_proj [every linear layer]",
        metavar="NAME,NAME",
        group=LORA,
        advanced=True,
    )
    lora_merge: bool = option(
        True,
        "save the adapter beside its base model instead of merging it into the weights",
        group=LORA,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class MatryoshkaOptions:
    """A tool whose losses can be taken on prefixes of the vectors (Kusupati et al. 2022)."""

    matryoshka: tuple[int, ...] = option(
        (),
        "also compute the loss on these first dimensions, e.g. 64,128,384",
        metavar="D,D",
        low=1,
        group=LOSS,
    )


@dataclass(frozen=True, kw_only=True)
class SoftmaxOptions:
    """A tool with a softmax over similarities in its loss."""

    temperature: float | None = option(
        None,
        "softmax temperature of the similarities [0.05; 1 for dot products and margin-mse]",
        metavar="T",
        low=1e-4,
        group=LOSS,
    )
    kl_weight: float = option(
        1.0, "weight of the KL-divergence loss", metavar="X", low=0, group=LOSS, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class NegativesOptions:
    """A tool that gives or takes hard negatives."""

    negatives: int | None = option(
        None, "hard negatives per row", metavar="K", low=0, group=TRAINING
    )
