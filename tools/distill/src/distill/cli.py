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

from typing import Any

from distill.options import Options
from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from fletching.train import launch


def check(options: Options) -> None:
    launch.check(options)
    if not (options.teacher or options.vectors):
        raise UsageError("there is no teacher", "pass --teacher M or --vectors FILE")
    if options.base_url and not options.teacher:
        raise UsageError("--base-url has no model", "name it: --teacher NAME")
    if not options.model and (options.base_url or not options.teacher):
        raise UsageError(
            "there is no model to make the student of", "pass --model M: a folder or hub name"
        )
    if options.student == "static" and options.student_layers:
        raise UsageError("--student-layers is for transformers", "leave it out")
    if options.student != "static" and options.student_dim:
        raise UsageError(
            "--student-dim is for --student static", "leave it out, or pass --projection keep"
        )
    if not any(
        (
            options.cosine_weight,
            options.similarity_weight,
            options.ranking_weight,
            options.mse_weight,
            options.kl_weight,
        )
    ):
        raise UsageError(
            "all losses have weight 0", "give one of them a weight, e.g. --cosine-weight 10"
        )


def job(*given: Any) -> Any:
    from distill.run import Job

    return Job(*given)


def run(options: Options, report: Report) -> None:
    check(options)
    launch.run(options, report, TOOL, job)


TOOL = cli.Tool(
    "distill",
    Options,
    run,
    __doc__,
    "distill [TEXTS...] --teacher M,M | --vectors FILE,FILE --model STUDENT -o DIR",
)


def main(argv: list[str] | None = None) -> int:
    return launch.main(TOOL, argv)
