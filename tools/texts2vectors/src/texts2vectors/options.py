"""The options of texts2vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    MODEL,
    EncodingOptions,
    EngineOptions,
    LimitOptions,
    OutputOptions,
    ShardOptions,
    StandardOptions,
    VectorsOptions,
    option,
    override,
    positional,
)


@dataclass(frozen=True, kw_only=True)
@override(
    "vectors",
    (),
    because="they are read to be selected, converted or merged",
    help="`vectors` files or cache shards that hold all texts, in place of --model",
)
class Options(
    OutputOptions,
    LimitOptions,
    EncodingOptions,
    VectorsOptions,
    ShardOptions,
    EngineOptions,
    StandardOptions,
):
    """One command line of texts2vectors."""

    inputs: tuple[str, ...] = positional(
        "texts or examples: Parquet, Arrow or JSONL files, folders, globs or URLs; "
        "none or - is stdin",
        "TEXTS",
    )
    role: Literal["query", "document"] | None = option(
        None,
        "encode texts as queries or documents; of examples, these alone "
        "[texts: document; examples: both]",
        group=MODEL,
    )
    vector_type: Literal["float32", "float16"] = option(
        "float32", "number type of the vectors written", group=IO
    )
    dimensions: int | None = option(
        None,
        "keep the first N dimensions, at length 1 (models trained with Matryoshka losses)",
        metavar="N",
        low=1,
        group=IO,
    )
