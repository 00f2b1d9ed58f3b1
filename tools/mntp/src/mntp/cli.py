"""mntp: any decoder language model becomes a bidirectional text encoder.

Reads    texts, the queries and positives of examples, or plain text files (.txt)
Writes   a sentence-transformers folder; checkpoints beside it in DIR.run until it is done
Holds    the model, its optimiser, one micro-batch, 40 bytes a text; tokens wait on disk

  mntp texts.parquet --model Qwen/Qwen3-0.6B -o encoder
  mntp corpus/ --model meta-llama/Llama-3.2-1B --steps 500 -o encoder

Attention is turned and the model is trained to predict masked tokens, each from the state before
it (LLM2Vec). A killed run goes on from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

from typing import Any

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from fletching.train import launch
from fletching.train.distributed import deepspeed_config, process_group
from mntp.options import Options


def check(options: Options) -> None:
    launch.check(options)
    if process_group.world_size() == 1 and options.fsdp:
        raise UsageError(
            "--fsdp shares the weights out among processes, and this is the only one",
            "start it by torchrun, or leave it out",
        )
    if options.deepspeed:
        deepspeed_config.check(options)
    if not options.lora and (
        options.lora_targets or options.lora_alpha is not None or not options.lora_merge
    ):
        raise UsageError("options of LoRA beside --no-lora", "leave one of them out")
    if options.steps == 0 and (options.inputs or options.eval or options.dry_run):
        raise UsageError("--steps 0 trains on nothing", "leave the texts out, or pass steps")
    if options.eval_every is not None and options.eval is None:
        raise UsageError("--eval-every has nothing to evaluate on", "pass --eval FILE")


def job(*given: Any) -> Any:
    from mntp.run import Job

    return Job(*given)


def run(options: Options, report: Report) -> None:
    check(options)
    launch.run(options, report, TOOL, job)


TOOL = cli.Tool("mntp", Options, run, __doc__, "mntp [TEXTS...] --model M -o DIR")


def main(argv: list[str] | None = None) -> int:
    return launch.main(TOOL, argv)
