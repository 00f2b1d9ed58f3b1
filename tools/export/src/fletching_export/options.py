"""The options of fletching-export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import IO, MODEL, SeedOptions, StandardOptions, option, positional

PARITY = "parity report"
HUB = "hub"


@dataclass(frozen=True, kw_only=True)
class Options(SeedOptions, StandardOptions):
    """What is exported, how it is compared, and where it is pushed."""

    inputs: tuple[str, ...] = positional(
        "a sentence-transformers folder or hub name; with --push also an exported folder, or a "
        "file of `examples`, `texts` or `measures`",
        "PATH",
    )
    output: str | None = option(
        None,
        "folder of the exported model (required with --to)",
        metavar="FOLDER",
        short="-o",
        group=IO,
        rows=False,
        written=True,
    )
    to: Literal["onnx", "openvino"] | None = option(
        None, "format of the graph; without it nothing is exported", group=MODEL
    )
    dtype: Literal["float32", "float16", "int8"] = option(
        "float32", "number type of the weights that are written", group=MODEL
    )
    truncate_dim: int | None = option(
        None,
        "cut the vectors to their first N dimensions inside the graph (Matryoshka)",
        metavar="N",
        low=1,
        group=MODEL,
    )

    texts: tuple[str, ...] = option(
        (),
        "`texts` to compare with torch on [a built-in sample]",
        metavar="TEXTS",
        group=PARITY,
        rows=False,
    )
    examples: tuple[str, ...] = option(
        (),
        "held-out examples as a retrieval task; NAME=FILE names it",
        metavar="FILE",
        group=PARITY,
        rows=False,
    )
    min_cosine: float | None = option(
        None,
        "exit 1 where the vector of any text has a cosine to torch's below X",
        metavar="X",
        low=-1.0,
        high=1.0,
        group=PARITY,
        rows=False,
    )

    push: str | None = option(
        None,
        "upload to this repository of the hub, private where it is new; the token is HF_TOKEN's "
        "or that of `hf auth login`",
        metavar="REPO",
        group=HUB,
        rows=False,
    )
    public: bool = option(
        False, "make a new repository public", group=HUB, advanced=True, rows=False
    )
    license: str | None = option(
        None,
        "licence in the card of the data, as the hub names it, e.g. cc-by-4.0",
        metavar="ID",
        group=HUB,
        advanced=True,
        rows=False,
    )
    dry_run: bool = option(
        False,
        "write and send nothing; of --push alone, show the files, their sizes and the card",
        group=HUB,
        rows=False,
    )
