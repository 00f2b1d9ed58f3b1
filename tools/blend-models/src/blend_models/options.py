"""The options of blend-models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import IO, MODEL, StandardOptions, option, positional


@dataclass(frozen=True, kw_only=True)
class Options(StandardOptions):
    """Everything that a blend can be asked for."""

    inputs: tuple[str, ...] = positional(
        "sentence-transformers folders or hub names of one architecture, two or more", "MODEL"
    )
    output: str | None = option(
        None,
        "folder of the blended model (required)",
        metavar="DIR",
        short="-o",
        group=IO,
        rows=False,
        written=True,
    )
    weights: tuple[float, ...] = option(
        (), "weight of each model; divided by their sum [equal]", metavar="W,W", low=0, group=MODEL
    )
    how: Literal["mean", "slerp"] = option(
        "mean", "weighted mean of the weights, or spherical interpolation", group=MODEL
    )
    trust_remote_code: bool = option(
        False,
        "run Python code from the model's folder",
        group=MODEL,
        advanced=True,
        rows=False,
    )
