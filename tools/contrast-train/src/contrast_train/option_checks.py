"""Options that contradict each other, found before anything is read. Raises UsageError."""

from __future__ import annotations

from contrast_train.data.reference_source import REFERENCES, flag_of
from contrast_train.losses import selection
from contrast_train.losses.candidates import ContrastSettings
from contrast_train.options import Options
from fletching.early_checks import check_page
from fletching.errors import UsageError
from fletching.options import describe
from fletching.train.distributed import deepspeed_config, process_group

# What --stream cannot give, by option.
OVER_ALL_ROWS = {
    "tasks": "the rows of each task",
    "task_temperature": "the rows of each task",
    "task_cap": "the rows of each task",
    "guide": "the vectors of all texts before the first step",
    "teacher_vectors": "the vectors of all texts before the first step",
    "document_vectors": "the vectors of all documents before the first step",
}
WITHOUT_STREAM = "leave it out, or leave --stream out, which copies the rows to disk"
DEFAULT_TEACHER_WEIGHT = describe(Options)["teacher_weight"].default


def check(options: Options) -> None:
    """Check every group of options."""
    _check_sharding(options)
    _check_lora(options)
    _check_references(options)
    _check_loss(options)
    _check_evaluation(options)
    _check_stream(options)
    if options.html:
        check_page(options.html)


def _check_sharding(options: Options) -> None:
    if process_group.world_size() == 1 and options.fsdp:
        raise UsageError(
            "--fsdp shards the weights among processes, and this is the only one",
            "start it by torchrun, or leave it out",
        )
    if not options.deepspeed:
        return
    deepspeed_config.check(options)
    if options.learn_temperature:
        raise UsageError(
            "--learn-temperature is no part of the model that DeepSpeed shards",
            "leave it out, or pass --fsdp instead",
        )


def _check_lora(options: Options) -> None:
    is_sharded = options.fsdp or options.deepspeed
    if options.lora_4bit and (not options.lora or is_sharded):
        fix = "leave the other out" if options.lora else "pass --lora"
        raise UsageError("--lora-4bit goes with --lora and without --fsdp and --deepspeed", fix)
    has_settings = options.lora_targets or options.lora_alpha is not None or not options.lora_merge
    if has_settings and not options.lora:
        raise UsageError("options of LoRA without --lora", "pass --lora")


def _check_references(options: Options) -> None:
    for field in REFERENCES:
        if getattr(options, field) == "":
            raise UsageError(f"{flag_of(field)} is empty", "give it a value, or leave it out")


def _check_loss(options: Options) -> None:
    if options.loss:
        selection.check(options, options.loss)
    if not options.matryoshka:
        for name in ("matryoshka_weights", "matryoshka_layer"):
            if getattr(options, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} needs dimensions",
                    "pass --matryoshka, e.g. 64,128,256",
                )
    if not options.teacher_vectors and options.teacher_weight != DEFAULT_TEACHER_WEIGHT:
        raise UsageError("--teacher-weight needs a teacher", "pass --teacher-vectors FILE|MODEL")
    if options.teacher_vectors and not options.teacher_weight:
        raise UsageError(
            "--teacher-weight 0 leaves nothing of --teacher-vectors", "leave both of them out"
        )
    contrast = ContrastSettings(
        directions=options.directions,
        symmetric=options.symmetric,
        query_negatives=options.query_negatives,
        softmax=options.softmax,
        candidates=options.candidates,
    )
    if contradiction := contrast.contradiction():
        raise UsageError(*contradiction)
    if options.hardness_of != "all" and not options.hardness_weight:
        raise UsageError("--hardness-of weighs nothing", "pass --hardness-weight, e.g. 5")
    if not options.guide and (options.guide_margin or options.guide_relative):
        raise UsageError("--guide-margin and --guide-relative need a guide", "pass --guide MODEL")


def _check_stream(options: Options) -> None:
    if not options.stream:
        if options.stream_window is not None:
            raise UsageError("--stream-window has no stream", "pass --stream, or leave it out")
        return
    if not options.inputs or "-" in options.inputs:
        raise UsageError(
            "--stream reads files at random, and stdin is a pipe",
            "write a file first, e.g. hnmine … -o train.parquet, and name it",
        )
    if options.stream_window is not None and options.stream_window < options.batch:
        raise UsageError(
            f"--stream-window {options.stream_window} is below --batch {options.batch}",
            f"pass --stream-window {10 * options.batch} or more",
        )
    for name, reason in OVER_ALL_ROWS.items():
        if getattr(options, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} needs {reason}, and --stream reads a window", WITHOUT_STREAM)


def _check_evaluation(options: Options) -> None:
    if options.blend == "auto" and options.eval is None:
        raise UsageError("--blend auto has nothing to choose by", "pass --eval FILE, or a number")
    if options.blend not in (None, "auto") and not 0 < _as_number(options.blend) <= 1:
        raise UsageError(
            f"--blend {options.blend} is no share of the tuned weights",
            "pass a number above 0 and up to 1, or auto",
        )
    if options.eval is None:
        for name in ("eval_every", "patience", "eval_corpus"):
            if getattr(options, name):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag} has nothing to evaluate on", "pass --eval FILE")


def _as_number(text: str | None) -> float:
    """nan where it is none."""
    try:
        return float(text or "")
    except ValueError:
        return float("nan")
