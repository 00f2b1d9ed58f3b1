"""mntp: a decoder becomes a bidirectional text encoder; an encoder learns the user's domain.

Reads    texts, the queries and positives of examples, or plain text files (.txt)
Writes   a sentence-transformers folder; checkpoints beside it in DIR.run until it is done
Holds    the model, its optimiser, one micro-batch, 40 bytes a text; tokens wait on disk

  mntp texts.parquet --model Qwen/Qwen3-0.6B -o encoder
  mntp corpus/ --model meta-llama/Llama-3.2-1B --steps 500 -o encoder

A decoder's attention becomes bidirectional, and it is trained to predict masked tokens, each from
the state before it (LLM2Vec). An encoder predicts them in place (masked language modelling), and
keeps its pooling. The same command resumes a killed run from its newest checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from fletching.train import launch
from fletching.train.distributed import deepspeed_config, process_group
from mntp.options import Options

if TYPE_CHECKING:
    from mntp.run import MntpRun


def check(options: Options) -> None:
    """Raise UsageError for options that contradict each other."""
    launch.check(options)
    if options.fsdp and process_group.world_size() == 1:
        raise UsageError(
            "--fsdp shards the weights among processes, and this is the only one",
            "start it by torchrun, or leave it out",
        )
    if options.deepspeed:
        deepspeed_config.check(options)
    has_lora_options = (
        options.lora_targets or options.lora_alpha is not None or not options.lora_merge
    )
    if has_lora_options and not options.lora:
        raise UsageError("options of LoRA beside --no-lora", "leave one of them out")
    if options.steps == 0 and (options.inputs or options.eval or options.dry_run):
        raise UsageError("--steps 0 trains on nothing", "leave the texts out, or pass steps")
    if options.eval_every is not None and options.eval is None:
        raise UsageError("--eval-every has nothing to evaluate on", "pass --eval FILE")


def run(options: Options, report: Report) -> None:
    """Train an encoder, or say what training would do."""
    check(options)
    launch.run(options, report, TOOL, job=_resolve, inputs=options.inputs, open_inputs=_open_inputs)


def _open_inputs(options: Options, report: Report) -> None:
    """Raises InputError where columns do not fit. Imports no torch."""
    from mntp.documents import Documents

    Documents(report, options.inputs, lines=options.lines)


def _resolve(options: Options, report: Report, tool: cli.Tool, run_path: str) -> MntpRun:
    from mntp.run import MntpRun

    if options.steps != 0 and not options.dry_run:
        from mntp import trainer  # noqa: F401  # before the garbage is frozen
    launch.freeze_imports()
    return MntpRun(options, report, tool, run_path=run_path)


TOOL = cli.Tool(
    name="mntp",
    options=Options,
    run=run,
    doc=__doc__,
    usage="mntp [TEXTS...] --model M -o DIR",
    check=check,
    open_inputs=_open_inputs,
)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns its exit code."""
    return launch.main(TOOL, argv)
