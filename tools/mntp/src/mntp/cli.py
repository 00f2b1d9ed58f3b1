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

from dataclasses import dataclass
from typing import Any, Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, MODEL, TRAINING, Seed, Standard, Training
from fletching.report import Report
from fletching.train import launch
from fletching.train.distributed import deepspeed_config, process_group

MASKING = "masking"


@dataclass(frozen=True, kw_only=True)
class Options(Training, Seed, Standard):
    inputs: tuple[str, ...] = cli.positional(
        "texts or examples (Parquet, Arrow, JSONL: files, folders, globs, URLs), or .txt files; none or - is stdin", "TEXTS"
    )
    limit: int | None = cli.option(None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True)
    lines: bool = cli.option(False, "each line of a .txt file is a text of its own, not the whole file", group=IO, advanced=True)
    output: str | None = cli.option(
        None, "the folder of the encoder (required but for --dry-run)", metavar="DIR", short="-o", group=IO, rows=False
    )
    eval: str | None = cli.option(
        None, "held-out texts: loss and accuracy on their masked tokens before, during and after", metavar="FILE", group=IO
    )
    dry_run: bool = cli.option(False, "print the plan and an estimate of time, then stop", group=TRAINING, rows=False)
    model: str = cli.required("decoder with its language-model head: a folder or a hub name", metavar="M", group=MODEL)
    adapters: tuple[str, ...] = cli.option(
        (), "LoRA adapters to merge into it first, in this order: LLM2Vec's", metavar="DIR,DIR", group=MODEL
    )
    length: int = cli.option(512, "tokens of a block; longer texts go on in another piece", metavar="N", low=8, group=TRAINING)
    pack: bool = cli.option(True, "one text a row; else short texts share a block, where none sees another", group=TRAINING)
    batch: int = cli.option(32, "blocks in a global batch", metavar="N", low=1, group=TRAINING)
    steps: int | None = cli.option(None, "global batches; 0: turn the model and save it [1000]", metavar="N", low=0, group=TRAINING)
    epochs: float | None = cli.option(None, "passes over the texts, instead of --steps", metavar="N", low=0.001, group=TRAINING)
    lr: float = cli.option(5e-5, "highest learning rate (AdamW)", metavar="X", low=0, group=TRAINING)
    warmup: float = cli.option(
        0.0, "steps of rising learning rate; below 1: a share of the run", metavar="X", low=0, group=TRAINING, advanced=True
    )
    weight_decay: float = cli.option(0.0, "AdamW's weight decay", metavar="X", low=0, group=TRAINING, advanced=True)
    eval_every: int | None = cli.option(
        None, "steps between evaluations [a quarter of the run]", metavar="N", low=1, group=TRAINING, advanced=True
    )
    fsdp: bool = cli.option(
        False,
        "under torchrun, share weights, gradients and optimiser out among the processes (FSDP2)",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    deepspeed: str | None = cli.option(
        None,
        "under torchrun, the same by DeepSpeed: optimiser (zero1), gradients too (zero2), weights too (zero3), or its config",
        metavar="zero1|zero2|zero3|FILE",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    gradient_checkpointing: bool = cli.option(
        False,
        "keep the input of each layer only and compute it again: less memory, a third slower",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    mask_prob: float = cli.option(0.2, "share of the tokens that are masked", metavar="P", low=0.001, high=1, group=MASKING)
    masking: Literal["mlm", "all"] = cli.option(
        "mlm", "mlm: of the masked, 80 % become the mask token, 10 % any token, 10 % stay; all: 100 %", group=MASKING
    )
    mask_token: str | None = cli.option(
        None,
        "added to the vocabulary where it is not there [the model's own; else _; else its end of text]",
        metavar="TEXT",
        group=MASKING,
    )
    lora: bool = cli.option(True, "train all weights but the head's; else small matrices beside them, which stay frozen", group=TRAINING)
    lora_rank: int = cli.option(16, "columns of these matrices", metavar="N", low=1, group=TRAINING, advanced=True)
    lora_alpha: float | None = cli.option(
        None, "their product is scaled by alpha / rank [2 x rank]", metavar="X", low=0, group=TRAINING, advanced=True
    )
    lora_dropout: float = cli.option(
        0.05, "share of their inputs dropped in training", metavar="X", low=0, high=0.9, group=TRAINING, advanced=True
    )
    lora_targets: tuple[str, ...] = cli.option(
        (), "layers that get them, e.g. q_proj,v_proj [every linear one]", metavar="NAME,NAME", group=TRAINING, advanced=True
    )
    lora_merge: bool = cli.option(
        True,
        "the folder holds the adapter and, in base/, the model; else they are added to the weights at the end",
        group=TRAINING,
        advanced=True,
    )
    pooling: Literal["cls", "mean", "last", "weighted"] | None = cli.option(
        None, "how the encoder makes one vector of a text [mean]", group=MODEL, advanced=True
    )
    attention: Literal["sdpa", "eager"] | None = cli.option(
        None, "attention kernel [eager on CPUs, elsewhere the model's own]", group=MODEL, advanced=True, rows=False
    )
    batch_tokens: int | None = cli.option(
        None, "tokens in one forward pass [by hardware]", metavar="N", low=1, group=MODEL, advanced=True, rows=False
    )
    device: str | None = cli.option(None, "cpu, cuda, cuda:1, mps [the best there is]", metavar="D", group=MODEL, advanced=True, rows=False)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = cli.option("auto", "number type of the model", group=MODEL, advanced=True)
    trust_remote_code: bool = cli.option(False, "let the model's folder run its own Python", group=MODEL, advanced=True, rows=False)


def check(options: Options) -> None:
    launch.check(options)
    if process_group.count() == 1 and options.fsdp:
        raise Usage("--fsdp shares the weights out among processes, and this is the only one", "start it by torchrun, or leave it out")
    if options.deepspeed:
        deepspeed_config.check(options)
    if not options.lora and (options.lora_targets or options.lora_alpha is not None or not options.lora_merge):
        raise Usage("options of LoRA beside --no-lora", "leave one of them out")
    if options.steps == 0 and (options.inputs or options.eval or options.dry_run):
        raise Usage("--steps 0 trains on nothing", "leave the texts out, or pass steps")
    if options.eval_every is not None and options.eval is None:
        raise Usage("--eval-every has nothing to evaluate on", "pass --eval FILE")


def job(*given: Any) -> Any:
    from mntp.run import Job

    return Job(*given)


def run(options: Options, report: Report) -> None:
    check(options)
    launch.run(options, report, TOOL, job)


TOOL = cli.Tool("mntp", Options, run, __doc__, "mntp [TEXTS...] --model M -o DIR")


def main(argv: list[str] | None = None) -> int:
    return launch.main(TOOL, argv)
