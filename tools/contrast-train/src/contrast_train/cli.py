"""contrast-train: contrastive fine-tuning whose gradient is right at any batch size.

Reads    examples: `query`, `pos`, and where there are `neg`, scores, `prompt`, `task`; or texts
Writes   a sentence-transformers folder; checkpoints beside it in DIR.run until it is done
Holds    the model, its optimiser, activations up to --activations, 4 x D bytes a text of the batch

  contrast-train train.parquet --model M -o tuned
  csv2pairs faq.csv --query q --pos a | hnmine --model M | contrast-train --model M -o tuned

A killed run goes on from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from contrast_train.foreign_option_names import NAMES_ELSEWHERE
from contrast_train.losses import registry
from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, MODEL, TRAINING, Examples, Model, Seed, Standard, Training
from fletching.report import Report
from fletching.train import launch
from fletching.train.distributed import deepspeed_config, process_group

LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Options(Examples, Model, Training, Seed, Standard):
    NAMES_ELSEWHERE: ClassVar = NAMES_ELSEWHERE
    inputs: tuple[str, ...] = cli.positional(
        "examples, or texts for SimCSE: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin", "EXAMPLES"
    )
    output: str | None = cli.option(
        None, "the folder of the trained model (required but for --dry-run)", metavar="DIR", short="-o", group=IO, rows=False
    )
    eval: str | None = cli.option(
        None, "held-out examples: nDCG@10 and MRR@10 before, during and after; the best weights are kept", metavar="FILE", group=IO
    )
    dry_run: bool = cli.option(
        False, "print the plan, cut texts, masked pairs and an estimate of time, then stop", group=TRAINING, rows=False
    )
    batch: int = cli.option(128, "rows in a global batch; memory does not grow with it", metavar="N", low=2, group=TRAINING)
    negatives: int | None = cli.option(None, "hard negatives a row, drawn anew each epoch [all it has]", metavar="K", low=0, group=TRAINING)
    epochs: float | None = cli.option(None, "passes over the rows [1]", metavar="N", low=0.001, group=TRAINING)
    steps: int | None = cli.option(None, "global batches, instead of --epochs", metavar="N", low=1, group=TRAINING)
    lr: float = cli.option(
        1e-4, "highest learning rate (AdamW); 2e-5 for models of 300 million weights and more", metavar="X", low=0, group=TRAINING
    )
    weight_decay: float = cli.option(0.01, "AdamW's weight decay", metavar="X", low=0, group=TRAINING, advanced=True)
    positives: Literal["sample", "all"] | None = cli.option(
        None,
        "one positive a row, drawn anew each epoch, or all of them [sample; a loss over scores takes all in any case]",
        metavar="sample|all",
        group=TRAINING,
        advanced=True,
    )
    min_score: float | None = cli.option(
        None, "a positive whose label, reranker or judge score is below X is none", metavar="X", group=TRAINING, advanced=True
    )
    tasks: str | None = cli.option(
        None, "weight, query-prompt and doc-prompt of each task: JSON, YAML or TOML", metavar="FILE", group=TRAINING, rows=False
    )
    task_temperature: float | None = cli.option(
        None,
        "rows of a task in an epoch ~ (weight x rows)^(1/T); above 1 small tasks gain",
        metavar="T",
        low=0.1,
        group=TRAINING,
        advanced=True,
    )
    task_cap: int | None = cli.option(
        None, "at most so many rows of a task in an epoch, another part each time", metavar="N", low=1, group=TRAINING, advanced=True
    )
    mix_tasks: bool = cli.option(False, "let rows of several tasks share a batch", group=TRAINING, advanced=True)
    drop_last: bool = cli.option(False, "leave out the smaller last batches of each epoch", group=TRAINING, advanced=True)
    prompt_template: str | None = cli.option(
        None, "what the `prompt` of a row is put into, at {}, e.g. 'Instruct: {}, query: '", metavar="TEXT", group=TRAINING, advanced=True
    )
    prompt_pooling: Literal["include", "exclude"] | None = cli.option(
        None, "tokens of prompts in or out of pooling [the model's own]", metavar="include|exclude", group=TRAINING, advanced=True
    )
    dropout: float | None = cli.option(
        None,
        "share of activations dropped in training; 0 is 1.6 times as fast on a CPU [the model's own]",
        metavar="X",
        low=0,
        high=0.9,
        group=TRAINING,
        advanced=True,
    )
    activations: float = cli.option(
        0.5,
        "memory for activations that are not computed twice, in GB; a step that keeps all is 1.2 times as fast as with 0",
        metavar="GB",
        low=0,
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    eval_every: int | None = cli.option(
        None, "steps between evaluations [a quarter of the run]", metavar="N", low=1, group=TRAINING, advanced=True
    )
    accumulate: int = cli.option(
        1,
        "global batches an update: the mean of their gradients, each with its own negatives",
        metavar="K",
        low=1,
        group=TRAINING,
        advanced=True,
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
    blend: str | None = cli.option(
        None, "the model is W parts tuned, 1 - W parts base; auto: the best W on --eval", metavar="W|auto", group=TRAINING, advanced=True
    )
    pooling: Literal["cls", "mean", "last", "weighted"] | None = cli.option(
        None, "how a bare transformer makes one vector [mean; last token if causal]", group=MODEL, advanced=True
    )
    lora: bool = cli.option(False, "train small matrices beside frozen weights, merged at the end", group=TRAINING)
    lora_rank: int = cli.option(16, "columns of these matrices", metavar="N", low=1, group=TRAINING, advanced=True)
    lora_alpha: float | None = cli.option(
        None, "their product is scaled by alpha / rank [2 x rank]", metavar="X", low=0, group=TRAINING, advanced=True
    )
    lora_targets: tuple[str, ...] = cli.option(
        (), "layers that get them, e.g. q_proj,v_proj [every linear one]", metavar="NAME,NAME", group=TRAINING, advanced=True
    )
    lora_merge: bool = cli.option(
        True,
        "the folder holds the adapter alone and needs the base model; else they are added to the weights at the end",
        group=TRAINING,
        advanced=True,
    )
    lora_4bit: bool = cli.option(False, "keep the frozen weights in 4 bits (QLoRA, by bitsandbytes)", group=TRAINING, advanced=True)
    gradient_checkpointing: bool = cli.option(
        False,
        "keep the input of each layer only and compute it again: less memory, a third slower",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
    loss: Literal["infonce", "triplet", "kl", "infonce+kl", "margin-mse", "cosent", "simcse"] | None = cli.option(
        None,
        "infonce, triplet, kl, infonce+kl, margin-mse, cosent (labels) or simcse (texts) [by what the rows carry; it is said]",
        metavar="L",
        group=LOSS,
    )
    temperature: float | None = cli.option(
        None, "similarities are divided by it [0.05; 1 for dot products and margin-mse]", metavar="T", low=1e-4, group=LOSS
    )
    learn_temperature: bool = cli.option(
        False, "train the temperature too, at 50 x --lr, from where --temperature puts it", group=LOSS, advanced=True
    )
    similarity: Literal["cosine", "dot"] | None = cli.option(
        None, "of normalised vectors or not; saved in the model [the model's own]", metavar="cosine|dot", group=LOSS, advanced=True
    )
    symmetric: bool = cli.option(False, "InfoNCE: rank queries for each document as well", group=LOSS)
    candidates: Literal["all", "positives", "hard", "own"] = cli.option(
        "all",
        "InfoNCE negatives: all documents of the batch; own hard negatives and everyone's positives; everyone's hard "
        "negatives; own hard negatives alone",
        group=LOSS,
        advanced=True,
    )
    query_negatives: bool = cli.option(False, "InfoNCE: the other queries are negatives too", group=LOSS, advanced=True)
    guide: str | None = cli.option(
        None, "InfoNCE: a model that masks false negatives, what it finds as near as the positive", metavar="MODEL", group=LOSS
    )
    guide_margin: float = cli.option(
        0.0, "mask above the positive's similarity by the guide - X", metavar="X", low=-2, high=2, group=LOSS, advanced=True
    )
    guide_relative: bool = cli.option(False, "mask above that similarity x (1 - X)", group=LOSS, advanced=True)
    margin: float = cli.option(
        0.2, "triplet: how much nearer a positive must be than a hard negative", metavar="X", low=0, high=2, group=LOSS, advanced=True
    )
    teacher_temperature: float = cli.option(
        1.0, "kl, margin-mse: the teacher's scores are divided by it", metavar="T", low=1e-4, group=LOSS, advanced=True
    )
    kl_weight: float = cli.option(1.0, "infonce+kl: weight of the second part", metavar="X", low=0, group=LOSS, advanced=True)
    matryoshka: tuple[int, ...] = cli.option(
        (), "take the loss on these first dimensions too, e.g. 64,128,384", metavar="D,D", low=1, group=LOSS
    )
    matryoshka_weights: tuple[float, ...] = cli.option(
        (), "weights of these dimensions [equal ones]", metavar="W,W", low=1e-6, group=LOSS, advanced=True
    )
    matryoshka_layer: bool = cli.option(
        False, "add a linear layer to the largest of these dimensions, saved in the model", group=LOSS, advanced=True
    )


def check(options: Options) -> None:
    launch.check(options)
    if process_group.count() == 1 and options.fsdp:
        raise Usage("--fsdp shares the weights out among processes, and this is the only one", "start it by torchrun, or leave it out")
    if options.deepspeed:
        deepspeed_config.check(options)
        if options.learn_temperature:
            raise Usage("--learn-temperature is no part of the model that DeepSpeed shares out", "leave it out, or pass --fsdp instead")
    if options.lora_4bit and (not options.lora or options.fsdp or options.deepspeed):
        fix = "pass --lora" if not options.lora else "leave the other out"
        raise Usage("--lora-4bit goes with --lora and without --fsdp and --deepspeed", fix)
    if not options.lora and (options.lora_targets or options.lora_alpha is not None or not options.lora_merge):
        raise Usage("options of LoRA without --lora", "pass --lora")
    if options.loss:
        registry.check(options, options.loss)
    for name in ("matryoshka_weights", "matryoshka_layer"):
        if getattr(options, name) and not options.matryoshka:
            raise Usage(f"--{name.replace('_', '-')} needs dimensions", "pass --matryoshka, e.g. 64,128,256")
    if options.prompt_template is not None and "{}" not in options.prompt_template:
        raise Usage("--prompt-template has no {} for the prompt of a row", "write e.g. --prompt-template 'Instruct: {}, query: '")
    if not options.guide and (options.guide_margin or options.guide_relative):
        raise Usage("--guide-margin and --guide-relative need a guide", "pass --guide MODEL")
    if options.blend is not None:
        check_blend(options)
    if options.eval_every is not None and options.eval is None:
        raise Usage("--eval-every has nothing to evaluate on", "pass --eval FILE")


def check_blend(options: Options) -> None:
    if options.blend == "auto":
        if options.eval is None:
            raise Usage("--blend auto has nothing to choose by", "pass --eval FILE, or a number")
        return
    try:
        share = float(options.blend or "")
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise Usage(f"--blend {options.blend} is no share of the tuned weights", "pass a number above 0 and up to 1, or auto")


def job(*given: Any) -> Any:
    from contrast_train.run import Job

    return Job(*given)


def run(options: Options, report: Report) -> None:
    check(options)
    launch.run(options, report, TOOL, job)


TOOL = cli.Tool("contrast-train", Options, run, __doc__, "contrast-train [EXAMPLES|TEXTS...] --model M -o DIR")


def main(argv: list[str] | None = None) -> int:
    return launch.main(TOOL, argv)
