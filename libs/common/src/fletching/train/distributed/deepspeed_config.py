"""What --deepspeed asks for: a stage by name, or a DeepSpeed config held against our own options. Imports nothing heavy.

Batch, optimiser, schedule, clipping and number types are ours to say: such a key of a config must be "auto" or equal.
Of the others those pass that leave the gradient what it is: ZeRO's stage, its buckets and its prefetching.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

from fletching import config
from fletching.errors import UsageError
from fletching.train.distributed import process_group

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
FLAG = "--deepspeed"
# Every backward pass adds to the gradient and the update ends it: GradCache has as many passes as micro-batches.
BASE_CONFIG = {
    "train_micro_batch_size_per_gpu": 1,  # the plan knows the batch
    "managed_gradient_accumulation": False,
    "zero_allow_untested_optimizer": True,
}
# Passes are too many to reduce one during another; a linear layer of DeepSpeed's own would round bfloat16 another way.
ZERO_DEFAULTS = {"overlap_comm": False, "memory_efficient_linear": False}
PASS = {
    "zero_allow_untested_optimizer", "steps_per_print", "comms_logger", "wall_clock_breakdown", "memory_breakdown",
    *(f"zero_optimization.{name}" for name in (
        "stage", "contiguous_gradients", "reduce_scatter", "reduce_bucket_size", "allgather_partitions", "allgather_bucket_size",
        "overlap_comm", "round_robin_gradients", "sub_group_size", "ignore_unused_parameters", "stage3_max_live_parameters",
        "stage3_max_reuse_distance", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold",
        "stage3_gather_16bit_weights_on_model_save",
    )),
}  # fmt: skip


def check(options: Any) -> None:
    """Raises Usage where --deepspeed cannot be what was meant."""
    if options.fsdp:
        raise UsageError(f"--fsdp and {FLAG} both share the weights out", "leave one of them out")
    if process_group.world_size() == 1:
        raise UsageError(
            f"{FLAG} shares out among processes, and this is the only one",
            "start it by torchrun, or leave it out",
        )
    resolve(options.deepspeed, options)


def resolve(given: str, options: Any) -> dict[str, Any]:
    """DeepSpeed's config for `given`, the value of --deepspeed. Raises Usage."""
    if importlib.util.find_spec("deepspeed") is None:
        raise UsageError(
            f"{FLAG}: deepspeed is not installed",
            "pip install 'deepspeed>=0.19.8', or pass --fsdp, which saves the same memory",
        )
    found = (
        {"zero_optimization": {"stage": STAGES[given]}}
        if given in STAGES
        else _of_file(given, options)
    )
    zero = ZERO_DEFAULTS | found.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in STAGES.values():
        raise UsageError(
            f"{given}: zero_optimization.stage is {stage}",
            f"write 1, 2 or 3; without sharing anything out, leave {FLAG} out",
        )
    if zero["overlap_comm"] and stage != 2:
        raise UsageError(
            f"{given}: zero_optimization.overlap_comm needs stage 2, and the stage is {stage}",
            "leave it out: several passes make an update",
        )
    return found | BASE_CONFIG | {"zero_optimization": zero, "gradient_clipping": options.clip}


def _of_file(path: str, options: Any) -> dict[str, Any]:
    try:
        given = config.read(path, FLAG)
    except UsageError as error:
        raise UsageError(
            error.what, f"{error.fix}; {FLAG} takes {', '.join(STAGES)} or a DeepSpeed config"
        ) from None
    ours = _ours(options)
    kept: dict[str, Any] = {}
    for key, value in leaves(given):
        flag, own = next(
            (
                (flag, own)
                for name, (flag, own) in ours.items()
                if key == name or key.startswith(name + ".")
            ),
            ("", None),
        )
        if value == "auto" or (flag and value == own and key in ours):
            continue
        if flag:
            told = (
                f", {flag} is {json.dumps(own)}"
                if key in ours and own not in (None, False)
                else f", which is for {flag} to say"
            )
            raise UsageError(
                f"{path}: {key} is {json.dumps(value)}{told}",
                f'leave {key} out of {path}, or write "auto"',
            )
        if key not in PASS and key.split(".")[0] not in PASS:
            raise UsageError(
                f"{path}: {key} is {json.dumps(value)}, which is not tried here: the gradient may be another",
                f"leave {key} out",
            )
        put(kept, key, value)
    return kept


def _ours(options: Any) -> dict[str, tuple[str, Any]]:
    """key of a DeepSpeed config: (our option, its value; None where there is none to be equal to). A section's keys go with it."""
    return {
        "train_batch_size": ("--batch", options.batch),
        "train_micro_batch_size_per_gpu": ("--batch-tokens", None),
        "gradient_accumulation_steps": ("--accumulate", getattr(options, "accumulate", 1)),
        "gradient_clipping": ("--clip", options.clip),
        "optimizer.type": ("the optimiser here", "AdamW"),
        "optimizer.params.lr": ("--lr", options.lr),
        "optimizer.params.weight_decay": ("--weight-decay", options.weight_decay),
        "optimizer": ("--lr and --weight-decay", None),
        "scheduler": ("--schedule and --warmup", None),
        "fp16.enabled": ("--dtype", False),
        "bf16.enabled": ("--dtype", False),
        "fp16": ("--dtype", None),
        "bf16": ("--dtype", None),
        "torch_autocast": ("--dtype", None),
        "activation_checkpointing": ("--gradient-checkpointing", None),
        "tensorboard": ("--report-to", None),
        "wandb": ("--report-to", None),
    }


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value).

    >>> list(leaves({"a": {"b": 1}, "c": []}))
    [('a.b', 1), ('c', [])]
    """
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key, value


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    *folders, name = path.split(".")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name] = value
