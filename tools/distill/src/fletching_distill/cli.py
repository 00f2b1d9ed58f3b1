"""distill: a small fast student from any teacher.

Reads    texts, or the queries, positives and negatives of examples
Writes   a sentence-transformers folder; until done, checkpoints in DIR.run, vectors in DIR.cache
Holds    student and teacher, 150 bytes a text; on disk, 4 bytes for each number of a vector

  distill texts.parquet --teacher M --student-layers 3 -o small
  distill texts.parquet --teacher M --student static -o tiny
  distill texts.jsonl --vectors a.parquet,b.parquet --model STUDENT -o small

The same command resumes a killed run from its newest checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fletching import cli
from fletching.early_checks import check_model
from fletching.errors import UsageError
from fletching.report import Report
from fletching.train import launch
from fletching_distill.options import Options
from fletching_distill.resolved_options import loss_weights

if TYPE_CHECKING:
    from fletching_distill.run import DistillRun


def check(options: Options) -> None:
    """Raise UsageError for options that contradict each other."""
    launch.check(options)
    if not (options.teacher or options.vectors):
        raise UsageError("there is no teacher", "pass --teacher M or --vectors FILE")
    if options.base_url and not options.teacher:
        raise UsageError("--base-url has no model", "name it: --teacher NAME")
    if options.base_url and options.teacher_length:
        raise UsageError(
            "--teacher-length is for teachers that run in this process",
            "leave it out, and set the limit in the server of --base-url",
        )
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
    if not any(loss_weights(options).values()):
        raise UsageError(
            "all losses have weight 0", "give one of them a weight, e.g. --cosine-weight 10"
        )
    if not options.base_url:
        for teacher in options.teacher:
            check_model("--teacher", teacher)


def run(options: Options, report: Report) -> None:
    """Train a student, or say what training would do."""
    check(options)
    launch.run(options, report, TOOL, job=_resolve, inputs=options.inputs, open_inputs=_open_inputs)


def _open_inputs(options: Options, report: Report) -> None:
    """Raises InputError where columns do not fit. Imports no torch."""
    from fletching_distill.text_dataset import open_reader

    open_reader(report, options.inputs, options.limit)


def _resolve(options: Options, report: Report, tool: cli.Tool, run_path: str) -> DistillRun:
    from fletching_distill.run import DistillRun

    if not options.dry_run:
        from fletching_distill import trainer  # noqa: F401  # before the garbage is frozen
    launch.freeze_imports()
    return DistillRun(options, report, tool, run_path=run_path)


TOOL = cli.Tool(
    name="distill",
    options=Options,
    run=run,
    doc=__doc__,
    usage="distill [TEXTS...] --teacher M,M | --vectors FILE,FILE --model STUDENT -o DIR",
    check=check,
    open_inputs=_open_inputs,
)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns its exit code."""
    return launch.main(TOOL, argv)
