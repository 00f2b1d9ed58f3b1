"""Options of a command line: how one is declared, and the groups that several tools share.

fields    `option`, `required`, `positional`, `override`; `describe` resolves a dataclass of them
*_groups  the dataclasses that tools inherit: of rows, of models, of training
headings  the headings of --help

A tool's `options.py` imports this package and nothing else. `fletching.parsing` turns a command
line into an instance.
"""

from fletching.options.engine_groups import EngineOptions
from fletching.options.fields import (
    REQUIRED,
    Option,
    describe,
    option,
    override,
    positional,
    required,
)
from fletching.options.headings import (
    IO,
    LORA,
    LOSS,
    MODEL,
    RUN,
    TRAINING,
)
from fletching.options.model_groups import (
    CacheOptions,
    ConcurrencyOptions,
    DeviceOptions,
    EmbeddingServerOptions,
    EncodingOptions,
    ModelOptions,
    PoolingOptions,
    PromptTemplateOptions,
    RequiredModelOptions,
    ServerOptions,
    VectorsOptions,
)
from fletching.options.row_groups import (
    CorpusOptions,
    ExamplesOptions,
    LimitOptions,
    OutputOptions,
    RejectsOptions,
    ScoreWritingOptions,
    SeedOptions,
    Shard,
    ShardOptions,
    StandardOptions,
)
from fletching.options.table_groups import NEGATIVES, PAIRS, TABLE, PairOptions, TableReadingOptions
from fletching.options.training_groups import (
    DistributedOptions,
    EvaluationOptions,
    LoraOptions,
    MatryoshkaOptions,
    NegativesOptions,
    RegularizationOptions,
    SoftmaxOptions,
    TrainingOptions,
)

__all__ = [
    "IO",
    "LORA",
    "LOSS",
    "MODEL",
    "NEGATIVES",
    "PAIRS",
    "REQUIRED",
    "RUN",
    "TABLE",
    "TRAINING",
    "CacheOptions",
    "ConcurrencyOptions",
    "CorpusOptions",
    "DeviceOptions",
    "DistributedOptions",
    "EmbeddingServerOptions",
    "EncodingOptions",
    "EngineOptions",
    "EvaluationOptions",
    "ExamplesOptions",
    "LimitOptions",
    "LoraOptions",
    "MatryoshkaOptions",
    "ModelOptions",
    "NegativesOptions",
    "Option",
    "OutputOptions",
    "PairOptions",
    "PoolingOptions",
    "PromptTemplateOptions",
    "RegularizationOptions",
    "RejectsOptions",
    "RequiredModelOptions",
    "ScoreWritingOptions",
    "SeedOptions",
    "ServerOptions",
    "Shard",
    "ShardOptions",
    "SoftmaxOptions",
    "StandardOptions",
    "TableReadingOptions",
    "TrainingOptions",
    "VectorsOptions",
    "describe",
    "option",
    "override",
    "positional",
    "required",
]
