"""The options of distill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    LOSS,
    CacheOptions,
    EmbeddingServerOptions,
    LimitOptions,
    MatryoshkaOptions,
    ModelOptions,
    PromptTemplateOptions,
    RegularizationOptions,
    SeedOptions,
    SoftmaxOptions,
    StandardOptions,
    TrainingOptions,
    VectorsOptions,
    option,
    override,
    positional,
)

STUDENT = "student"
TEACHER = "teacher"


@dataclass(frozen=True, kw_only=True)
@override(
    "model",
    None,
    because="a student may start from its teacher",
    help="sentence-transformers model to start from [the teacher]",
    group=STUDENT,
)
@override(
    "vectors",
    (),
    because="several files are several teachers, and plain arrays go by row",
    help="teachers' precomputed vectors: `vectors` files, .npy, or headerless float32 rows",
    group=TEACHER,
    advanced=False,
)
@override(
    "base_url",
    None,
    because="without a server the teachers are models that run locally",
    help="OpenAI-compatible server of the --teacher models, e.g. http://localhost:8000/v1",
    group=TEACHER,
)
@override(
    "matryoshka",
    (),
    because="losses between single vectors always see all dimensions",
    help="average the losses on similarities over these first dimensions, e.g. 64,128,384",
)
@override(
    "kl_weight",
    0.0,
    because="the recipe of Jasper and Stella has no such loss",
    help="weight of the KL divergence of softmax distributions over the batch",
)
@override(
    "temperature",
    0.05,
    because="all similarities of distill are cosines",
    help="softmax temperature of the KL divergence",
    advanced=True,
)
@override(
    "batch",
    128,
    because="the losses compare all pairs of texts in a batch",
    help="texts in a global batch; the losses compare all pairs",
)
@override("epochs", None, because="rows are texts", help="passes over the texts [1]")
@override(
    "lr",
    None,
    because="token embeddings of a static student need larger steps than a transformer",
    help="peak learning rate (AdamW) [0.0001; static: 0.005]",
)
@override(
    "weight_decay",
    None,
    because="embeddings of tokens that no text has would only shrink",
    help="weight decay (AdamW) [0.01; static: 0]",
)
@override(
    "dropout",
    0.0,
    because="the targets are exact, so that noise in the student only slows learning",
    help="dropout probability",
)
@override(
    "activations",
    3.0,
    because="a student is small: most of its batches fit without recomputation",
)
class Options(
    LimitOptions,
    CacheOptions,
    ModelOptions,
    EmbeddingServerOptions,
    VectorsOptions,
    SoftmaxOptions,
    MatryoshkaOptions,
    PromptTemplateOptions,
    RegularizationOptions,
    TrainingOptions,
    SeedOptions,
    StandardOptions,
):
    """The command line of distill."""

    inputs: tuple[str, ...] = positional(
        "texts or examples: Parquet, Arrow or JSONL files, folders, globs or URLs; "
        "none or - is stdin",
        "TEXTS",
    )
    student: Literal["transformer", "static"] = option(
        "transformer",
        "a transformer, or static token embeddings: hundreds of times as fast",
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
        None,
        "dimension of a static student [the model's]",
        metavar="N",
        low=1,
        group=STUDENT,
    )
    projection: Literal["auto", "keep", "drop", "none"] = option(
        "auto",
        "linear layer to the teacher's dimension: keep saves it, drop discards it after training, "
        "auto keeps one where dimensions differ",
        group=STUDENT,
    )
    teacher: tuple[str, ...] = option(
        (),
        "sentence-transformers models, folders or hub names; vectors of several are concatenated",
        metavar="M",
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
        "weight of each teacher in the similarity, --teacher first [equal]",
        metavar="X,X",
        low=0,
        group=TEACHER,
        advanced=True,
    )
    teacher_query_prompt: str | None = option(
        None,
        "prepended to each query for the teacher [the model's own; else none]",
        metavar="TEXT",
        group=TEACHER,
        advanced=True,
    )
    teacher_doc_prompt: str | None = option(
        None,
        "prepended to each document for the teacher [the model's own; else none]",
        metavar="TEXT",
        group=TEACHER,
        advanced=True,
    )
    teacher_length: int | None = option(
        None,
        "truncate the teacher's texts after N tokens [the model's own]",
        metavar="N",
        low=1,
        group=TEACHER,
        advanced=True,
    )
    allow_extra: bool = option(
        False,
        "accept --vectors that also hold vectors of other texts, as the shards of a cache do",
        group=TEACHER,
        advanced=True,
        rows=False,
    )
    cosine_weight: float = option(
        10.0,
        "weight of 1 - cosine between the student's and the teacher's vector",
        metavar="X",
        low=0,
        group=LOSS,
    )
    similarity_weight: float = option(
        200.0,
        "weight of the squared error of all similarities in the batch",
        metavar="X",
        low=0,
        group=LOSS,
    )
    ranking_weight: float = option(
        20.0,
        "weight of the hinge loss that ranks pairs of similarities as the teacher does",
        metavar="X",
        low=0,
        group=LOSS,
    )
    ranking_margin: float = option(
        0.015,
        "margin of the ranking loss",
        metavar="X",
        low=0,
        high=2,
        group=LOSS,
        advanced=True,
    )
    mse_weight: float = option(
        0.0,
        "weight of the squared error of vectors that are not normalised",
        metavar="X",
        low=0,
        group=LOSS,
        advanced=True,
    )
