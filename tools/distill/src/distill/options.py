"""The options of distill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    MODEL,
    TRAINING,
    ModelOptions,
    SeedOptions,
    StandardOptions,
    TrainingOptions,
    option,
    positional,
)

TEACHER = "teacher (several stand side by side)"
STUDENT = "student"
LOSS = "loss: weights, 0 leaves one out"


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, TrainingOptions, SeedOptions, StandardOptions):
    inputs: tuple[str, ...] = positional(
        "texts or examples: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin",
        "TEXTS",
    )
    limit: int | None = option(
        None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True
    )
    output: str | None = option(
        None,
        "the folder of the student (required but for --dry-run)",
        metavar="DIR",
        short="-o",
        group=IO,
        rows=False,
    )
    teacher: tuple[str, ...] = option(
        (),
        "sentence-transformers models: folders or hub names",
        metavar="M",
        group=TEACHER,
        rows=False,
    )
    vectors: tuple[str, ...] = option(
        (),
        "the teachers' vectors: `vectors` files, .npy, or headerless float32 rows",
        metavar="FILE",
        group=TEACHER,
        rows=False,
    )
    teacher_dim: int | None = option(
        None,
        "dimension of headerless --vectors",
        metavar="N",
        low=1,
        group=TEACHER,
        advanced=True,
        rows=False,
    )
    teacher_weights: tuple[float, ...] = option(
        (),
        "what each teacher counts in the similarity, --teacher first [equal]",
        metavar="X,X",
        low=0,
        group=TEACHER,
        advanced=True,
    )
    base_url: str | None = option(
        None,
        "an OpenAI-compatible server that --teacher is a model of, e.g. http://localhost:8000/v1",
        metavar="URL",
        group=TEACHER,
        rows=False,
    )
    api_key_env: str | None = option(
        None,
        "environment variable with the server's key [OPENAI_API_KEY]",
        metavar="NAME",
        group=TEACHER,
        advanced=True,
        rows=False,
    )
    teacher_query_prompt: str | None = option(
        None,
        "put before each query for the teacher [the model's own; else none]",
        metavar="TEXT",
        group=TEACHER,
        advanced=True,
    )
    teacher_doc_prompt: str | None = option(
        None,
        "put before each document for the teacher [the model's own; else none]",
        metavar="TEXT",
        group=TEACHER,
        advanced=True,
    )
    teacher_length: int | None = option(
        None,
        "cut the teacher's texts after N tokens [the model's own]",
        metavar="N",
        low=1,
        group=TEACHER,
        advanced=True,
    )
    allow_extra: bool = option(
        False,
        "--vectors may hold vectors of other texts, as the shards of a cache do",
        group=TEACHER,
        advanced=True,
        rows=False,
    )
    cache: str | None = option(
        None,
        "keep vectors here and reuse them; by default beside OUT until done",
        metavar="DIR",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    model: str | None = option(
        None, "sentence-transformers model to start from [the teacher]", metavar="M", group=STUDENT
    )  # type: ignore[assignment]
    student: Literal["transformer", "static"] = option(
        "transformer",
        "a transformer, or a table of token vectors: hundreds of times as fast",
        group=STUDENT,
    )
    student_layers: int | None = option(
        None,
        "keep N layers of the model: the first, the last, evenly between",
        metavar="N",
        low=1,
        group=STUDENT,
    )
    student_dim: int | None = option(
        None, "static: dimension of the table [the model's]", metavar="N", low=1, group=STUDENT
    )
    projection: Literal["auto", "keep", "drop", "none"] = option(
        "auto",
        "linear layer to the teacher's dimension: saved, dropped after training; auto: keep where they differ",
        group=STUDENT,
    )
    matryoshka: tuple[int, ...] = option(
        (),
        "take the losses on similarities on these first dimensions, e.g. 64,128,384",
        metavar="D,D",
        low=1,
        group=LOSS,
    )
    cosine_weight: float = option(
        10.0, "1 - cosine of the student's and the teacher's vector", metavar="X", low=0, group=LOSS
    )
    similarity_weight: float = option(
        200.0, "squared difference of all similarities in the batch", metavar="X", low=0, group=LOSS
    )
    ranking_weight: float = option(
        20.0,
        "pairs of similarities in the teacher's order, by --margin",
        metavar="X",
        low=0,
        group=LOSS,
    )
    mse_weight: float = option(
        0.0,
        "squared difference of the vectors, lengths included",
        metavar="X",
        low=0,
        group=LOSS,
        advanced=True,
    )
    kl_weight: float = option(
        0.0,
        "divergence of the softmax over the other texts of the batch",
        metavar="X",
        low=0,
        group=LOSS,
        advanced=True,
    )
    margin: float = option(
        0.015,
        "ranking: by how much the order must hold",
        metavar="X",
        low=0,
        high=2,
        group=LOSS,
        advanced=True,
    )
    temperature: float = option(
        0.05, "kl: similarities are divided by it", metavar="T", low=1e-4, group=LOSS, advanced=True
    )
    dry_run: bool = option(
        False,
        "print the plan, cut texts and an estimate of time, then stop",
        group=TRAINING,
        rows=False,
    )
    batch: int = option(
        128, "texts in a batch; the losses see all pairs of it", metavar="N", low=2, group=TRAINING
    )
    epochs: float | None = option(
        None, "passes over the texts [1]", metavar="N", low=0.001, group=TRAINING
    )
    steps: int | None = option(
        None, "batches, instead of --epochs", metavar="N", low=1, group=TRAINING
    )
    lr: float | None = option(  # type: ignore[assignment]
        None,
        "highest learning rate (AdamW) [0.0001; static: 0.005]",
        metavar="X",
        low=0,
        group=TRAINING,
    )
    weight_decay: float | None = option(  # type: ignore[assignment]
        None,
        "AdamW's weight decay [0.01; static: 0]",
        metavar="X",
        low=0,
        group=TRAINING,
        advanced=True,
    )
    dropout: float = option(
        0.0,
        "share of activations dropped in training",
        metavar="X",
        low=0,
        high=0.9,
        group=TRAINING,
        advanced=True,
    )
    activations: float = option(
        3.0,
        "memory for activations that are not computed twice, in GB",
        metavar="GB",
        low=0,
        group=TRAINING,
        advanced=True,
        rows=False,
    )
