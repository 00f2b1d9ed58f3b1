"""The options of contrast-train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    LORA,
    LOSS,
    MODEL,
    TRAINING,
    DistributedOptions,
    EvaluationOptions,
    ExamplesOptions,
    LoraOptions,
    MatryoshkaOptions,
    NegativesOptions,
    PoolingOptions,
    PromptTemplateOptions,
    RegularizationOptions,
    RequiredModelOptions,
    SeedOptions,
    SoftmaxOptions,
    StandardOptions,
    TrainingOptions,
    option,
    positional,
)


@dataclass(frozen=True, kw_only=True)
class DataOptions(ExamplesOptions, NegativesOptions, PromptTemplateOptions):
    """Which rows are trained, how often, and what of each."""

    inputs: tuple[str, ...] = positional(
        "examples, or texts for SimCSE: Parquet, Arrow or JSONL files, folders, globs or URLs; "
        "none or - is stdin",
        "EXAMPLES",
    )
    positives: Literal["sample", "all"] | None = option(
        None,
        "one positive a row, sampled anew each epoch, or all of them "
        "[sample; all for losses over scores]",
        metavar="sample|all",
        group=TRAINING,
        advanced=True,
    )
    min_pos_score: float | None = option(
        None,
        "discard positives whose label, reranker or judge score is below X",
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
        "sample tasks in proportion to (weight x rows)^(1/T); above 1 favours small tasks",
        metavar="T",
        low=0.1,
        group=TRAINING,
        advanced=True,
    )
    task_cap: int | None = option(
        None,
        "at most N rows of a task in an epoch, other rows in the next",
        metavar="N",
        low=1,
        group=TRAINING,
        advanced=True,
    )
    mix_tasks: bool = option(
        False, "let a batch hold rows of several tasks", group=TRAINING, advanced=True
    )
    stream: bool = option(
        False,
        "read Parquet files while training, without a copy; shuffled within windows",
        group=TRAINING,
    )
    stream_window: int | None = option(
        None,
        "--stream: rows in memory, which are shuffled together [100000]",
        metavar="ROWS",
        low=2,
        group=TRAINING,
        advanced=True,
    )
    drop_last: bool = option(
        False, "fill every batch; leave out what is left over", group=TRAINING, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class LossOptions(SoftmaxOptions, MatryoshkaOptions):
    """The training loss. Which of these a loss reads is declared beside its formula."""

    loss: str | None = option(
        None,
        "training loss [by what the rows carry; the choice is logged]",
        choices="contrast_train.losses.registry:LOSSES",
        group=LOSS,
    )
    learn_temperature: bool = option(
        False,
        "train the temperature too, at 50 x --lr, starting from --temperature",
        group=LOSS,
        advanced=True,
    )
    similarity: Literal["cosine", "dot"] | None = option(
        None,
        "similarity of two vectors; saved in the model [the model's own]",
        metavar="cosine|dot",
        group=LOSS,
        advanced=True,
    )
    symmetric: bool = option(
        False,
        "InfoNCE: also rank the queries for each document; short for doc-query in --directions",
        group=LOSS,
    )
    directions: tuple[Literal["query-doc", "doc-query", "query-query", "doc-doc"], ...] = option(
        ("query-doc",),
        "InfoNCE: anchors and their candidates: query-doc, doc-query, query-query, doc-doc",
        metavar="A-B,A-B",
        group=LOSS,
        advanced=True,
    )
    softmax: Literal["per-direction", "joint"] = option(
        "per-direction",
        "InfoNCE: a softmax each for queries and for documents as anchors, or one over all scores",
        group=LOSS,
        advanced=True,
    )
    hardness_weight: float = option(
        0.0,
        "InfoNCE: add the constant X x similarity to the exponents of negative documents",
        metavar="X",
        low=0,
        group=LOSS,
        advanced=True,
    )
    hardness_of: Literal["all", "hard", "in-batch"] = option(
        "all",
        "which of them: all, a query's own hard negatives, or all others",
        group=LOSS,
        advanced=True,
    )
    candidates: Literal["all", "positives", "hard", "own"] = option(
        "all",
        "InfoNCE negatives: all documents of the batch; own hard negatives and everyone's "
        "positives; everyone's hard negatives; own hard negatives alone",
        group=LOSS,
        advanced=True,
    )
    query_negatives: bool = option(
        False,
        "InfoNCE: also use the other queries as negatives; short for query-query",
        group=LOSS,
        advanced=True,
    )
    guide: str | None = option(
        None,
        "InfoNCE: mask candidates that this model ranks as high as the positive",
        metavar="MODEL",
        group=LOSS,
        is_model=True,
    )
    guide_margin: float = option(
        0.0,
        "mask above the guide's similarity of the positive - X",
        metavar="X",
        low=-2,
        high=2,
        group=LOSS,
        advanced=True,
    )
    guide_relative: bool = option(
        False, "mask above that similarity x (1 - X)", group=LOSS, advanced=True
    )
    document_vectors: str | None = option(
        None,
        "train queries alone, against these fixed `vectors` of the documents, or those of a model",
        metavar="FILE|MODEL",
        group=LOSS,
        advanced=True,
    )
    teacher_vectors: str | None = option(
        None,
        "also learn the vectors of a teacher: `vectors` of all texts, or a model",
        metavar="FILE|MODEL",
        group=LOSS,
    )
    teacher_weight: float = option(
        1.0,
        "weight of the teacher's terms: cosine and similarities",
        metavar="X",
        low=0,
        group=LOSS,
    )
    spread_out: float = option(
        0.0,
        "weight of the regulariser that spreads vectors out on the sphere",
        metavar="X",
        low=0,
        group=LOSS,
        advanced=True,
    )
    triplet_margin: float = option(
        0.2,
        "triplet: margin between the similarities of a positive and of a hard negative",
        metavar="X",
        low=0,
        high=2,
        group=LOSS,
        advanced=True,
    )
    teacher_temperature: float = option(
        1.0,
        "softmax temperature of the teacher's scores",
        metavar="T",
        low=1e-4,
        group=LOSS,
        advanced=True,
    )
    matryoshka_weights: tuple[float, ...] = option(
        (),
        "weights of the --matryoshka dimensions [equal]",
        metavar="W,W",
        low=1e-6,
        group=LOSS,
        advanced=True,
    )
    matryoshka_layer: bool = option(
        False,
        "add a linear layer to the largest --matryoshka dimension; saved in the model",
        group=LOSS,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class Options(
    DataOptions,
    LossOptions,
    RequiredModelOptions,
    TrainingOptions,
    EvaluationOptions,
    RegularizationOptions,
    DistributedOptions,
    LoraOptions,
    PoolingOptions,
    SeedOptions,
    StandardOptions,
):
    """Everything that a run can be asked for."""

    accumulate: int = option(
        1,
        "global batches in an update: the mean of their gradients, each with its own negatives",
        metavar="K",
        low=1,
        group=TRAINING,
        advanced=True,
    )
    eval_corpus: tuple[str, ...] = option(
        (),
        "`texts` that the queries of --eval are ranked in, besides the documents of its rows",
        metavar="TEXTS",
        group=IO,
    )
    patience: int | None = option(
        None,
        "stop after N evaluations in a row without a better nDCG@10 on --eval",
        metavar="N",
        low=1,
        group=TRAINING,
    )
    blend: str | None = option(
        None,
        "interpolate W x tuned + (1 - W) x base weights; auto: the best W on --eval",
        metavar="W|auto",
        group=TRAINING,
        advanced=True,
    )
    html: str | None = option(
        None,
        "also write a page: loss, gradient norm, rate, throughput and --eval by step",
        metavar="FILE",
        group=IO,
        rows=False,
        written=True,
    )
    prompt_pooling: Literal["include", "exclude"] | None = option(
        None,
        "prompt tokens in or out of pooling [the model's own]",
        metavar="include|exclude",
        group=MODEL,
        advanced=True,
    )
    lora_4bit: bool = option(
        False,
        "keep the frozen weights in 4 bits (QLoRA, by bitsandbytes)",
        group=LORA,
        advanced=True,
    )
