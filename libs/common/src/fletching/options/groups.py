"""Options that several tools share: the same name, value, default and meaning in each.

A tool inherits the groups it needs and adds its own options; it takes none away. A default of its
own is stated with `override(NAME, VALUE, because=…)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fletching.errors import UsageError
from fletching.options.fields import option, positional, required

# Headings in --help.
IO = "input and output"
MODEL = "model and encoding"
TRAINING = "training"
LORA = "LoRA"
RUN = "running"


@dataclass(frozen=True, kw_only=True)
class StandardOptions:
    """What every tool has."""

    config: str | None = option(
        None,
        "options from a JSON, YAML or TOML file; the command line wins",
        metavar="FILE",
        group=RUN,
        rows=False,
    )
    quiet: bool = option(False, "print errors only", group=RUN, advanced=True, rows=False)
    json_summary: str | None = option(
        None, "the summary line as JSON", metavar="FILE", group=RUN, advanced=True, rows=False
    )


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """A tool that makes random choices."""

    seed: int = option(
        0, "random seed; the same seed gives the same output", metavar="N", low=0, group=RUN
    )


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """A tool that can stop reading early."""

    limit: int | None = option(
        None, "read only the first N rows", metavar="N", low=1, group=IO, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class ExamplesOptions(LimitOptions):
    """A tool that reads `examples`."""

    inputs: tuple[str, ...] = positional(
        "examples: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin",
        "EXAMPLES",
    )


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """A tool that writes a stream of rows."""

    output: str | None = option(
        None,
        "FILE.parquet, .arrow, .jsonl, .jsonl.gz or .jsonl.zst; else an Arrow stream on stdout",
        metavar="OUT",
        short="-o",
        group=IO,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part `index` of `count` of the rows, in order; the parts laid end to end are the whole."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str | None) -> Shard | None:
        """`0/4` … `3/4`; None stays None. Raises UsageError."""
        if text is None:
            return None
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise UsageError(
                f"--shard {text} is no part of a whole",
                "pass --shard I/N with 0 <= I < N, e.g. 0/4",
            )
        return cls(index=int(index), count=int(count))


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """A tool that can do one part of its rows."""

    shard: str | None = option(
        None,
        "process part I of N of the rows (0/4 … 3/4); the outputs in order are the whole",
        metavar="I/N",
        group=RUN,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """A tool that runs a neural network."""

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
        "cpu, cuda, cuda:1, mps [the fastest available]",
        metavar="D",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "number type of the weights and activations", group=MODEL, advanced=True
    )
    trust_remote_code: bool = option(
        False,
        "run Python code from the model's folder",
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class ModelOptions(DeviceOptions):
    """A tool that may run or train a sentence-transformers model."""

    model: str | None = option(
        None, "sentence-transformers model: a folder or a hub name", metavar="M", group=MODEL
    )
    query_prompt: str | None = option(
        None,
        "prepended to each query [the model's own]",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )
    doc_prompt: str | None = option(
        None,
        "prepended to each document [the model's own]",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )
    query_length: int | None = option(
        None,
        "truncate queries after N tokens [the model's own]",
        metavar="N",
        low=1,
        group=MODEL,
        advanced=True,
    )
    doc_length: int | None = option(
        None,
        "truncate documents after N tokens [the model's own]",
        metavar="N",
        low=1,
        group=MODEL,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class RequiredModelOptions(ModelOptions):
    """A tool that cannot run without a model."""

    model: str = required(
        "sentence-transformers model: a folder or a hub name", metavar="M", group=MODEL
    )


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """A tool that keeps vectors on disk."""

    cache: str | None = option(
        None,
        "keep vectors here and reuse them; default: beside OUT until the run succeeds",
        metavar="DIR",
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class EncodingOptions(ModelOptions, CacheOptions):
    """A tool that turns texts into vectors."""

    query_echo: str | None = option(
        None,
        "echo embeddings: encode each query twice, joined by TEXT, and pool over the second",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )
    doc_echo: str | None = option(
        None,
        "the same for documents; for causal models, and never saved in a model",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )


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
        "dropout probability; 0 is 1.6 times as fast on a CPU [the model's own]",
        metavar="X",
        low=0,
        high=0.9,
        group=TRAINING,
        advanced=True,
    )
    activations: float = option(
        0.5,
        "memory for activations that the backward pass need not recompute, in GB",
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
class PoolingOptions:
    """A tool that makes a sentence encoder of a bare transformer."""

    pooling: str | None = option(
        None,
        "pooling of a bare transformer [mean; last token if causal]",
        metavar="MODE",
        choices="fletching.pooling:POOLINGS",
        group=MODEL,
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
        group="loss",
    )


@dataclass(frozen=True, kw_only=True)
class SoftmaxOptions:
    """A tool with a softmax over similarities in its loss."""

    temperature: float | None = option(
        None,
        "softmax temperature of the similarities [0.05; 1 for dot products and margin-mse]",
        metavar="T",
        low=1e-4,
        group="loss",
    )
    kl_weight: float = option(
        1.0, "weight of the KL-divergence loss", metavar="X", low=0, group="loss", advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class NegativesOptions:
    """A tool that gives or takes hard negatives."""

    negatives: int | None = option(
        None, "hard negatives per row", metavar="K", low=0, group=TRAINING
    )


@dataclass(frozen=True, kw_only=True)
class VectorsOptions:
    """A tool that takes vectors computed before, in place of a model."""

    vectors: tuple[str, ...] = option(
        (),
        "precomputed `vectors` of all queries and texts, in place of --model",
        metavar="FILE",
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """A tool that searches more texts than its rows hold."""

    corpus: tuple[str, ...] = option(
        (),
        "`texts` that join the positives of the input as documents to search",
        metavar="TEXTS",
        group=IO,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class ScoreWritingOptions:
    """A tool that writes scores beside texts."""

    replace_scores: bool = option(
        False,
        "overwrite scores of a reranker, label or judge",
        group=IO,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class RejectsOptions:
    """A tool that can show what it dropped."""

    rejects: str | None = option(
        None,
        "write what was dropped here, each with its reason",
        metavar="FILE",
        group=IO,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """A tool that calls an OpenAI-compatible server."""

    base_url: str | None = option(
        None,
        "OpenAI-compatible server, e.g. http://localhost:8000/v1 [OpenAI's]",
        metavar="URL",
        group=MODEL,
        rows=False,
    )
    api_key_env: str | None = option(
        None,
        "environment variable that holds the API key [OPENAI_API_KEY]",
        metavar="NAME",
        group=MODEL,
        advanced=True,
        rows=False,
    )
