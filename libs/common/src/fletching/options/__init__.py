"""Options of a command line: how one is declared, and the groups that several tools share.

fields    `option`, `required`, `positional`, `override`; `describe` resolves a dataclass of them
groups    the dataclasses that tools inherit: input, output, model, training, LoRA, shards

A tool's `options.py` imports this package and nothing else. `fletching.parsing` turns a command line
into an instance.
"""

from fletching.options.fields import (
    REQUIRED,
    Option,
    describe,
    option,
    override,
    positional,
    reject_unknown_option,
    required,
)
from fletching.options.groups import (
    IO,
    LORA,
    MODEL,
    RUN,
    TRAINING,
    CacheOptions,
    DeviceOptions,
    DistributedOptions,
    EncodingOptions,
    EvaluationOptions,
    ExamplesOptions,
    LimitOptions,
    LoraOptions,
    ModelOptions,
    OutputOptions,
    RegularizationOptions,
    RequiredModelOptions,
    SeedOptions,
    Shard,
    ShardOptions,
    StandardOptions,
    TrainingOptions,
)

__all__ = [
    "CacheOptions",
    "DeviceOptions",
    "DistributedOptions",
    "EncodingOptions",
    "EvaluationOptions",
    "ExamplesOptions",
    "IO",
    "LORA",
    "LimitOptions",
    "LoraOptions",
    "MODEL",
    "ModelOptions",
    "Option",
    "OutputOptions",
    "REQUIRED",
    "RUN",
    "RegularizationOptions",
    "RequiredModelOptions",
    "SeedOptions",
    "Shard",
    "ShardOptions",
    "StandardOptions",
    "TRAINING",
    "TrainingOptions",
    "describe",
    "option",
    "override",
    "positional",
    "reject_unknown_option",
    "required",
]
