"""What --deepspeed asks for: a stage by name, or a config compared with our own options.

Batch, optimiser, schedule, clipping and dtypes have options here: such a key of a config must
be "auto" or equal. Of the others those pass that leave the gradient what it is: ZeRO's stage,
its buckets and its prefetching. Imports nothing heavy.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fletching import config
from fletching.errors import UsageError
from fletching.train.distributed import process_group

JSON = Any  # a value of a JSON file
Config = dict[str, JSON]

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
FLAG = "--deepspeed"
# Every backward pass adds to the gradient and the update ends it: GradCache has as many passes
# as micro-batches.
BASE_CONFIG = {
    "train_micro_batch_size_per_gpu": 1,  # the plan knows the batch
    "managed_gradient_accumulation": False,
    "zero_allow_untested_optimizer": True,
}
# Passes are too many to reduce one during another; DeepSpeed's own linear layer would round
# bfloat16 differently.
ZERO_DEFAULTS = {"overlap_comm": False, "memory_efficient_linear": False}
# Keys, or their first parts, that leave the gradient what it is.
ALLOWED = {
    "zero_allow_untested_optimizer",
    "steps_per_print",
    "comms_logger",
    "wall_clock_breakdown",
    "memory_breakdown",
    "zero_optimization.stage",
    "zero_optimization.contiguous_gradients",
    "zero_optimization.reduce_scatter",
    "zero_optimization.reduce_bucket_size",
    "zero_optimization.allgather_partitions",
    "zero_optimization.allgather_bucket_size",
    "zero_optimization.overlap_comm",
    "zero_optimization.round_robin_gradients",
    "zero_optimization.sub_group_size",
    "zero_optimization.ignore_unused_parameters",
    "zero_optimization.stage3_max_live_parameters",
    "zero_optimization.stage3_max_reuse_distance",
    "zero_optimization.stage3_prefetch_bucket_size",
    "zero_optimization.stage3_param_persistence_threshold",
    "zero_optimization.stage3_gather_16bit_weights_on_model_save",
}


class DeepSpeedOptions(Protocol):
    """The options, and --accumulate of some tools, that a config must agree with."""

    @property
    def batch(self) -> int:
        """Rows in a global batch."""

    @property
    def clip(self) -> float:
        """The largest gradient norm."""

    @property
    def lr(self) -> float | None:
        """The peak learning rate."""

    @property
    def weight_decay(self) -> float | None:
        """AdamW's weight decay."""


class ShardingOptions(DeepSpeedOptions, Protocol):
    """The options that choose between FSDP2 and DeepSpeed."""

    @property
    def fsdp(self) -> bool:
        """--fsdp."""

    @property
    def deepspeed(self) -> str | None:
        """--deepspeed."""


@dataclass(frozen=True)
class OwnOption:
    """One of our options that decides what a key of a DeepSpeed config would."""

    flag: str
    value: JSON = None  # None: the key may not be set, whatever its value


def check(options: ShardingOptions) -> None:
    """Raise UsageError where --deepspeed cannot be used with these options or processes."""
    if options.fsdp:
        raise UsageError(f"--fsdp and {FLAG} both shard the weights", "leave one of them out")
    if process_group.world_size() == 1:
        raise UsageError(
            f"{FLAG} shards among processes, and this is the only one",
            "start it by torchrun, or leave it out",
        )
    resolve(options.deepspeed or "", options)


def resolve(value: str, options: DeepSpeedOptions) -> Config:
    """DeepSpeed's config for the value of --deepspeed. Raises UsageError."""
    if importlib.util.find_spec("deepspeed") is None:
        raise UsageError(
            f"{FLAG}: deepspeed is not installed",
            "pip install 'deepspeed>=0.19.8', or pass --fsdp, which saves the same memory",
        )
    if value in STAGES:
        settings: Config = {"zero_optimization": {"stage": STAGES[value]}}
    else:
        settings = _read_config(value, options)
    zero = ZERO_DEFAULTS | settings.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in STAGES.values():
        raise UsageError(
            f"{value}: zero_optimization.stage is {stage}",
            f"write 1, 2 or 3; to shard nothing, leave {FLAG} out",
        )
    if zero["overlap_comm"] and stage != 2:
        raise UsageError(
            f"{value}: zero_optimization.overlap_comm needs stage 2, and the stage is {stage}",
            "leave it out: several passes make an update",
        )
    settings |= BASE_CONFIG
    settings["zero_optimization"] = zero
    settings["gradient_clipping"] = options.clip
    return settings


def _read_config(path: str, options: DeepSpeedOptions) -> Config:
    """The keys of a config file to pass on. Raises UsageError for one that may not be set."""
    try:
        content = config.read(path, FLAG)
    except UsageError as error:
        raise UsageError(
            error.what, f"{error.fix}; {FLAG} takes {', '.join(STAGES)} or a DeepSpeed config"
        ) from None
    own_options = _own_options(options)
    kept: Config = {}
    for key, value in flatten(content):
        if value == "auto":
            continue
        deciding = _deciding_option(key, own_options)
        if deciding is not None:
            if key in own_options and value == deciding.value:
                continue
            raise _contradiction(
                path, key, value, deciding=deciding, is_comparable=key in own_options
            )
        if key not in ALLOWED and key.split(".")[0] not in ALLOWED:
            raise UsageError(
                f"{path}: {key} is {json.dumps(value)}, which is not tried here: "
                "the gradient may be another",
                f"leave {key} out",
            )
        set_key(kept, key, value)
    return kept


def _deciding_option(key: str, own_options: Mapping[str, OwnOption]) -> OwnOption | None:
    """The option that decides a key or a section that holds it; the key itself comes first."""
    for name, option in own_options.items():
        if key == name or key.startswith(name + "."):
            return option
    return None


def _contradiction(
    path: str, key: str, value: JSON, *, deciding: OwnOption, is_comparable: bool
) -> UsageError:
    if is_comparable and deciding.value not in (None, False):
        reason = f", {deciding.flag} is {json.dumps(deciding.value)}"
    else:
        reason = f", which is for {deciding.flag} to say"
    return UsageError(
        f"{path}: {key} is {json.dumps(value)}{reason}",
        f'leave {key} out of {path}, or write "auto"',
    )


def _own_options(options: DeepSpeedOptions) -> dict[str, OwnOption]:
    """Our option for each key of a DeepSpeed config; a section's keys go with it."""
    accumulate = getattr(options, "accumulate", 1)
    return {
        "train_batch_size": OwnOption("--batch", options.batch),
        "train_micro_batch_size_per_gpu": OwnOption("--batch-tokens"),
        "gradient_accumulation_steps": OwnOption("--accumulate", accumulate),
        "gradient_clipping": OwnOption("--clip", options.clip),
        "optimizer.type": OwnOption("the optimiser here", "AdamW"),
        "optimizer.params.lr": OwnOption("--lr", options.lr),
        "optimizer.params.weight_decay": OwnOption("--weight-decay", options.weight_decay),
        "optimizer": OwnOption("--lr and --weight-decay"),
        "scheduler": OwnOption("--schedule and --warmup"),
        "fp16.enabled": OwnOption("--dtype", False),
        "bf16.enabled": OwnOption("--dtype", False),
        "fp16": OwnOption("--dtype"),
        "bf16": OwnOption("--dtype"),
        "torch_autocast": OwnOption("--dtype"),
        "activation_checkpointing": OwnOption("--gradient-checkpointing"),
        "tensorboard": OwnOption("--report-to"),
        "wandb": OwnOption("--report-to"),
    }


def flatten(tree: Mapping[str, JSON], prefix: str = "") -> Iterator[tuple[str, JSON]]:
    """(dotted key, value) of each leaf.

    >>> list(flatten({"a": {"b": 1}, "c": []}))
    [('a.b', 1), ('c', [])]
    """
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def set_key(tree: Config, dotted_key: str, value: JSON) -> None:
    """Set one leaf, with the sections that it needs."""
    *sections, name = dotted_key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[name] = value
