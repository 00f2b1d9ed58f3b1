"""blend-models: one model of the weights of several, which share an architecture.

Reads    sentence-transformers models: tuned from one base, with one tokenizer and one pooling
Writes   a sentence-transformers folder, in the number type of the first one
Holds    the blend in float32, the first model and one other

  blend-models tuned-a tuned-b tuned-c -o soup
  blend-models base tuned -o gentle --weights 0.4,0.6 --how slerp
"""

from __future__ import annotations

import os

from blend_models.options import Options
from fletching import cli
from fletching.errors import InputError, UsageError
from fletching.report import Report


def check(options: Options) -> None:
    """Raises UsageError or InputError for options that cannot work."""
    if len(options.inputs) < 2:
        raise UsageError(
            f"{len(options.inputs)} models leave nothing to blend", "name two folders or more"
        )
    if options.output is None:
        raise UsageError("-o is missing", "name the folder of the model: -o DIR")
    weights = options.weights
    if weights and len(weights) != len(options.inputs):
        raise UsageError(
            f"--weights has {len(weights)} numbers for {len(options.inputs)} models",
            "give one weight a model",
        )
    if weights and not sum(weights):
        raise UsageError("--weights are all zero", "give one model a weight above 0")
    _check_output(options.output)


def _check_output(output: str) -> None:
    path = output.rstrip("/")
    is_empty = os.path.isdir(path) and not os.listdir(path)
    if os.path.lexists(path) and not is_empty:
        raise InputError(
            f"-o {output} exists already", f"name another folder, or remove it: rm -r {output}"
        )
    full_path = os.path.abspath(path)
    parent = os.path.dirname(full_path)
    if not os.path.isdir(parent):
        raise UsageError(
            f"the folder of -o {output} does not exist", f"mkdir -p {os.path.dirname(path)}"
        )


def run(options: Options, report: Report) -> None:
    """Blend the models and write the folder."""
    check(options)
    from blend_models.publishing import BlendedModel

    BlendedModel(options, report, TOOL).publish()


TOOL = cli.Tool(
    name="blend-models",
    options=Options,
    run=run,
    doc=__doc__,
    usage="blend-models MODEL MODEL... -o DIR",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """The program: its exit code."""
    return cli.main(TOOL, argv)
