"""fletching-export: a model as one ONNX or OpenVINO graph; models and rows to the hub.

Reads    a sentence-transformers model; with --push also `examples`, `texts` or `measures`
Writes   a folder: graph, tokenizer, card and parity report (also on stdout); --push: a repository
Holds    the model in float32 twice while it is traced, and the vectors of the compared texts

  fletching-export tuned --to onnx --dtype int8 -o tuned-onnx --examples held-out.parquet
  fletching-export tuned-onnx --push me/tuned-onnx --dry-run
"""

from __future__ import annotations

import os

from fletching import cli
from fletching.early_checks import check_model
from fletching.errors import InputError, UsageError
from fletching.report import Report
from fletching_export.options import Options

REPO_PARTS = 2  # `user/name`


def check(options: Options) -> None:
    """Raises UsageError or InputError for options that cannot work."""
    if len(options.inputs) != 1:
        raise UsageError(
            f"{len(options.inputs)} paths are named", "name one model, or one file with --push"
        )
    if options.to is None and options.push is None:
        raise UsageError(
            "neither --to nor --push says what to do",
            "export: --to onnx -o FOLDER; upload: --push USER/NAME",
        )
    if options.to is None:
        _check_push_alone(options)
    elif options.output is None:
        raise UsageError("-o is missing", "name the folder of the exported model: -o FOLDER")
    else:
        _check_output(options.output)
        check_model("the model", options.inputs[0])
    if options.push is not None:
        _check_repository(options.push)


def _check_push_alone(options: Options) -> None:
    changed = {
        "-o": options.output,
        "--truncate-dim": options.truncate_dim,
        "--texts": options.texts,
        "--examples": options.examples,
        "--min-cosine": options.min_cosine,
    }
    for flag, value in changed.items():
        if value:
            raise UsageError(f"{flag} is of an export", "add --to onnx or --to openvino")


def _check_repository(name: str) -> None:
    parts = name.split("/")
    if len(parts) != REPO_PARTS or not all(parts):
        raise UsageError(f"--push {name} is no repository", "name it USER/NAME")


def _check_output(output: str) -> None:
    path = output.rstrip("/")
    is_empty = os.path.isdir(path) and not os.listdir(path)
    if os.path.lexists(path) and not is_empty:
        raise InputError(
            f"-o {output} exists already", f"name another folder, or remove it: rm -r {output}"
        )
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        raise UsageError(f"the folder of -o {output} does not exist", f"mkdir -p {parent}")


def run(options: Options, report: Report) -> int:
    """Export, compare, push: what the options name. 1 where --min-cosine is not reached."""
    check(options)
    source = options.inputs[0]
    if options.to is not None and options.dry_run:
        _note_plan(options, report)
        return 0
    if options.to is not None:
        from fletching_export.export import Export

        export = Export(options, report, TOOL)
        export.run()
        if not export.is_close_enough:
            return 1
        source = (options.output or "").rstrip("/")
    if options.push is not None:
        from fletching_export.push import Upload

        Upload(source, options, report, tool=TOOL).run()
    return 0


def _note_plan(options: Options, report: Report) -> None:
    """Say what an export would write and send."""
    report.note(
        f"would write {options.output}: {options.inputs[0]} as {options.to} in {options.dtype}, "
        "with a parity report"
    )
    if options.push is not None:
        report.note(f"would push it to {options.push}")
    report.note("dry run: nothing was written")


TOOL = cli.Tool(
    name="fletching-export",
    options=Options,
    run=run,
    doc=__doc__,
    usage="fletching-export PATH [--to onnx|openvino -o FOLDER] [--push REPO]",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """The program: its exit code."""
    return cli.main(TOOL, argv)
