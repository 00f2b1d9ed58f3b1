"""contrast-train: contrastive fine-tuning whose gradient is exact at any batch size.

Reads    examples: `query`, `pos`, optionally `neg`, scores, `prompt`, `task`; or texts for SimCSE
Writes   a sentence-transformers folder; checkpoints beside it in DIR.run until it is complete
Holds    the model, its optimiser, activations up to --activations, 4 x D bytes a text of the batch;
         with --stream the rows of a window, without it 32 bytes a row and a copy of all on disk

  contrast-train train.parquet --model M -o tuned
  csv2pairs faq.csv --query q --pos a | hnmine --model M | contrast-train --model M -o tuned

A killed run resumes from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrast_train import option_checks
from contrast_train.options import Options
from fletching import cli
from fletching.report import Report
from fletching.train import launch

if TYPE_CHECKING:
    from contrast_train.run import ContrastRun


def check(options: Options) -> None:
    """Raises UsageError where options contradict each other."""
    launch.check(options)
    option_checks.check(options)


def run(options: Options, report: Report) -> None:
    """Train a model and write its folder."""
    check(options)
    launch.run(options, report, TOOL, job=_start, inputs=options.inputs, open_inputs=_open_inputs)
    if options.html and not options.dry_run:
        _write_page(options.html, options.output or "")


def _write_page(path: str, folder: str) -> None:
    """Write --html, from the model folder: an earlier run may have published it."""
    from contrast_train.publishing import training_page
    from fletching.train.distributed import process_group

    if process_group.is_main():
        training_page.write_page(path, folder, version=TOOL.version)


def _open_inputs(options: Options, report: Report) -> None:
    """Raises InputError where columns do not fit. Imports no torch."""
    from contrast_train.data.task_folders import TrainingInputs
    from fletching.io import Reader

    if options.stream:
        from fletching.io.row_groups import RowGroupReader

        RowGroupReader(report, options.inputs, ["examples", "texts"], trains=True)
    else:
        TrainingInputs(report, options.inputs)
    if options.eval:
        Reader(report, [options.eval], "examples", count=False, trains=True)
    for option, name in (
        ("--teacher-vectors", options.teacher_vectors),
        ("--document-vectors", options.document_vectors),
    ):
        if name:
            _open_reference(option, name, report)
    if options.eval_corpus:
        Reader(report, options.eval_corpus, "texts", count=False)


def _open_reference(option: str, name: str, report: Report) -> None:
    from contrast_train.data.reference_source import names_vectors
    from fletching.early_checks import check_model
    from fletching.io import Reader

    if names_vectors(name):
        Reader(report, [name], "vectors", count=False)
    else:
        check_model(option, name)


def _start(options: Options, report: Report, tool: cli.Tool, run_path: str) -> ContrastRun:
    from contrast_train.run import ContrastRun

    if not options.dry_run:
        from contrast_train.training import trainer  # noqa: F401  # before the garbage is frozen
    launch.freeze_imports()
    return ContrastRun(options, report, tool, run_path=run_path)


TOOL = cli.Tool(
    name="contrast-train",
    options=Options,
    run=run,
    doc=__doc__,
    usage="contrast-train [EXAMPLES|TEXTS...] --model M -o DIR",
    check=check,
    open_inputs=_open_inputs,
)


def main(argv: list[str] | None = None) -> int:
    """The program: its exit code."""
    return launch.main(TOOL, argv)
