"""distill: a small fast student from any teacher.

Reads    texts, or the queries, positives and negatives of examples
Writes   a sentence-transformers folder; until done, checkpoints in DIR.run, vectors in DIR.cache
Holds    student and teacher, 150 bytes a text; on disk, 4 bytes for each number of a vector

  distill texts.parquet --teacher M --student-layers 3 -o small
  distill texts.parquet --teacher M --student static -o tiny
  distill texts.jsonl --vectors a.parquet,b.parquet --model STUDENT -o small

A killed run goes on from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, MODEL, TRAINING, Model, Seed, Standard, Training
from fletching.report import Report
from fletching.train import launch

TEACHER = "teacher (several stand side by side)"
STUDENT = "student"
LOSS = "loss: weights, 0 leaves one out"


@dataclass(frozen=True, kw_only=True)
class Options(Model, Training, Seed, Standard):
    inputs: tuple[str, ...] = cli.positional(
        "texts or examples: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin", "TEXTS"
    )
    limit: int | None = cli.option(None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True)
    output: str | None = cli.option(
        None, "the folder of the student (required but for --dry-run)", metavar="DIR", short="-o", group=IO, rows=False
    )
    teacher: tuple[str, ...] = cli.option((), "sentence-transformers models: folders or hub names", metavar="M", group=TEACHER, rows=False)
    vectors: tuple[str, ...] = cli.option(
        (), "the teachers' vectors: `vectors` files, .npy, or headerless float32 rows", metavar="FILE", group=TEACHER, rows=False
    )
    teacher_dim: int | None = cli.option(
        None, "dimension of headerless --vectors", metavar="N", low=1, group=TEACHER, advanced=True, rows=False
    )
    teacher_weights: tuple[float, ...] = cli.option(
        (), "what each teacher counts in the similarity, --teacher first [equal]", metavar="X,X", low=0, group=TEACHER, advanced=True
    )
    base_url: str | None = cli.option(
        None,
        "an OpenAI-compatible server that --teacher is a model of, e.g. http://localhost:8000/v1",
        metavar="URL",
        group=TEACHER,
        rows=False,
    )
    api_key_env: str | None = cli.option(
        None, "environment variable with the server's key [OPENAI_API_KEY]", metavar="NAME", group=TEACHER, advanced=True, rows=False
    )
    teacher_query_prompt: str | None = cli.option(
        None, "put before each query for the teacher [the model's own; else none]", metavar="TEXT", group=TEACHER, advanced=True
    )
    teacher_doc_prompt: str | None = cli.option(
        None, "put before each document for the teacher [the model's own; else none]", metavar="TEXT", group=TEACHER, advanced=True
    )
    teacher_length: int | None = cli.option(
        None, "cut the teacher's texts after N tokens [the model's own]", metavar="N", low=1, group=TEACHER, advanced=True
    )
    allow_extra: bool = cli.option(
        False, "--vectors may hold vectors of other texts, as the shards of a cache do", group=TEACHER, advanced=True, rows=False
    )
    cache: str | None = cli.option(
        None, "keep vectors here and reuse them; by default beside OUT until done", metavar="DIR", group=MODEL, advanced=True, rows=False
    )
    model: str | None = cli.option(None, "sentence-transformers model to start from [the teacher]", metavar="M", group=STUDENT)  # type: ignore[assignment]
    student: Literal["transformer", "static"] = cli.option(
        "transformer", "a transformer, or a table of token vectors: hundreds of times as fast", group=STUDENT
    )
    student_layers: int | None = cli.option(
        None, "keep N layers of the model: the first, the last, evenly between", metavar="N", low=1, group=STUDENT
    )
    student_dim: int | None = cli.option(None, "static: dimension of the table [the model's]", metavar="N", low=1, group=STUDENT)
    projection: Literal["auto", "keep", "drop", "none"] = cli.option(
        "auto", "linear layer to the teacher's dimension: saved, dropped after training; auto: keep where they differ", group=STUDENT
    )
    matryoshka: tuple[int, ...] = cli.option(
        (), "take the losses on similarities on these first dimensions, e.g. 64,128,384", metavar="D,D", low=1, group=LOSS
    )
    cosine_weight: float = cli.option(10.0, "1 - cosine of the student's and the teacher's vector", metavar="X", low=0, group=LOSS)
    similarity_weight: float = cli.option(200.0, "squared difference of all similarities in the batch", metavar="X", low=0, group=LOSS)
    ranking_weight: float = cli.option(20.0, "pairs of similarities in the teacher's order, by --margin", metavar="X", low=0, group=LOSS)
    mse_weight: float = cli.option(
        0.0, "squared difference of the vectors, lengths included", metavar="X", low=0, group=LOSS, advanced=True
    )
    kl_weight: float = cli.option(
        0.0, "divergence of the softmax over the other texts of the batch", metavar="X", low=0, group=LOSS, advanced=True
    )
    margin: float = cli.option(0.015, "ranking: by how much the order must hold", metavar="X", low=0, high=2, group=LOSS, advanced=True)
    temperature: float = cli.option(0.05, "kl: similarities are divided by it", metavar="T", low=1e-4, group=LOSS, advanced=True)
    dry_run: bool = cli.option(False, "print the plan, cut texts and an estimate of time, then stop", group=TRAINING, rows=False)
    batch: int = cli.option(128, "texts in a batch; the losses see all pairs of it", metavar="N", low=2, group=TRAINING)
    epochs: float | None = cli.option(None, "passes over the texts [1]", metavar="N", low=0.001, group=TRAINING)
    steps: int | None = cli.option(None, "batches, instead of --epochs", metavar="N", low=1, group=TRAINING)
    lr: float | None = cli.option(None, "highest learning rate (AdamW) [0.0001; static: 0.005]", metavar="X", low=0, group=TRAINING)
    weight_decay: float | None = cli.option(
        None, "AdamW's weight decay [0.01; static: 0]", metavar="X", low=0, group=TRAINING, advanced=True
    )
    dropout: float = cli.option(
        0.0, "share of activations dropped in training", metavar="X", low=0, high=0.9, group=TRAINING, advanced=True
    )
    activations: float = cli.option(
        3.0, "memory for activations that are not computed twice, in GB", metavar="GB", low=0, group=TRAINING, advanced=True, rows=False
    )


def check(options: Options) -> None:
    launch.check(options)
    if not (options.teacher or options.vectors):
        raise Usage("there is no teacher", "pass --teacher M or --vectors FILE")
    if options.base_url and not options.teacher:
        raise Usage("--base-url has no model", "name it: --teacher NAME")
    if not options.model and (options.base_url or not options.teacher):
        raise Usage("there is no model to make the student of", "pass --model M: a folder or hub name")
    if options.student == "static" and options.student_layers:
        raise Usage("--student-layers is for transformers", "leave it out")
    if options.student != "static" and options.student_dim:
        raise Usage("--student-dim is for --student static", "leave it out, or pass --projection keep")
    if not any((options.cosine_weight, options.similarity_weight, options.ranking_weight, options.mse_weight, options.kl_weight)):
        raise Usage("all losses have weight 0", "give one of them a weight, e.g. --cosine-weight 10")


def job(*given: Any) -> Any:
    from distill.run import Job

    return Job(*given)


def run(options: Options, report: Report) -> None:
    check(options)
    launch.run(options, report, TOOL, job)


TOOL = cli.Tool("distill", Options, run, __doc__, "distill [TEXTS...] --teacher M,M | --vectors FILE,FILE --model STUDENT -o DIR")


def main(argv: list[str] | None = None) -> int:
    return launch.main(TOOL, argv)
