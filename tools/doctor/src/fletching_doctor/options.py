"""The options of fletching-doctor."""

from __future__ import annotations

from dataclasses import dataclass

from fletching.options import IO, RUN, StandardOptions, option


@dataclass(frozen=True, kw_only=True)
class Options(StandardOptions):
    """What the command line and the config file give."""

    json: bool = option(False, "print JSON instead of a page for people", group=IO)
    output: str | None = option(
        None,
        "write the JSON here",
        metavar="FILE",
        short="-o",
        group=IO,
        rows=False,
        written=True,
    )
    hub: bool = option(
        True, "do not try to reach the model hub, nor say whether it answers", group=RUN
    )
    measure: bool = option(
        True, "do not import torch, so neither devices nor speeds are shown", group=RUN
    )
