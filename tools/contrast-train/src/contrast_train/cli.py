"""contrast-train: contrastive fine-tuning whose gradient is right at any batch size.

Reads    examples: `query`, `pos`, and where there are `neg`, scores, `prompt`, `task`; or texts
Writes   a sentence-transformers folder; checkpoints beside it in DIR.run until it is done
Holds    the model, its optimiser, activations up to --activations, 4 x D bytes a text of the batch

  contrast-train train.parquet --model M -o tuned
  csv2pairs faq.csv --query q --pos a | hnmine --model M | contrast-train --model M -o tuned

A killed run goes on from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

from typing import Any

from contrast_train.losses import registry
from contrast_train.options import Options
from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from fletching.train import launch
from fletching.train.distributed import deepspeed_config, process_group


def check(options: Options) -> None:
    launch.check(options)
    if process_group.world_size() == 1 and options.fsdp:
        raise UsageError(
            "--fsdp shares the weights out among processes, and this is the only one",
            "start it by torchrun, or leave it out",
        )
    if options.deepspeed:
        deepspeed_config.check(options)
        if options.learn_temperature:
            raise UsageError(
                "--learn-temperature is no part of the model that DeepSpeed shares out",
                "leave it out, or pass --fsdp instead",
            )
    if options.lora_4bit and (not options.lora or options.fsdp or options.deepspeed):
        fix = "pass --lora" if not options.lora else "leave the other out"
        raise UsageError("--lora-4bit goes with --lora and without --fsdp and --deepspeed", fix)
    if not options.lora and (
        options.lora_targets or options.lora_alpha is not None or not options.lora_merge
    ):
        raise UsageError("options of LoRA without --lora", "pass --lora")
    if options.loss:
        registry.check(options, options.loss)
    for name in ("matryoshka_weights", "matryoshka_layer"):
        if getattr(options, name) and not options.matryoshka:
            raise UsageError(
                f"--{name.replace('_', '-')} needs dimensions", "pass --matryoshka, e.g. 64,128,256"
            )
    if options.prompt_template is not None and "{}" not in options.prompt_template:
        raise UsageError(
            "--prompt-template has no {} for the prompt of a row",
            "write e.g. --prompt-template 'Instruct: {}, query: '",
        )
    if not options.guide and (options.guide_margin or options.guide_relative):
        raise UsageError("--guide-margin and --guide-relative need a guide", "pass --guide MODEL")
    if options.blend is not None:
        check_blend(options)
    if options.eval_every is not None and options.eval is None:
        raise UsageError("--eval-every has nothing to evaluate on", "pass --eval FILE")


def check_blend(options: Options) -> None:
    if options.blend == "auto":
        if options.eval is None:
            raise UsageError(
                "--blend auto has nothing to choose by", "pass --eval FILE, or a number"
            )
        return
    try:
        share = float(options.blend or "")
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UsageError(
            f"--blend {options.blend} is no share of the tuned weights",
            "pass a number above 0 and up to 1, or auto",
        )


def job(*given: Any) -> Any:
    from contrast_train.run import Job

    return Job(*given)


def run(options: Options, report: Report) -> None:
    check(options)
    launch.run(options, report, TOOL, job)


TOOL = cli.Tool(
    "contrast-train", Options, run, __doc__, "contrast-train [EXAMPLES|TEXTS...] --model M -o DIR"
)


def main(argv: list[str] | None = None) -> int:
    return launch.main(TOOL, argv)
