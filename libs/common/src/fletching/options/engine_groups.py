"""Options of tools whose shards an engine can run side by side."""

from __future__ import annotations

from dataclasses import dataclass

from fletching.options.fields import option
from fletching.options.headings import RUN


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """A tool that can have its shards run by other processes, here or on a cluster."""

    engine: str | None = option(
        None,
        "run shards side by side and join them: local, or ray[:ADDRESS] (extra [ray])",
        metavar="ENGINE",
        group=RUN,
        rows=False,
    )
    workers: int | None = option(
        None,
        "with --engine: shards at a time [one a GPU, else one for --worker-cores]",
        metavar="N",
        low=1,
        group=RUN,
        advanced=True,
        rows=False,
    )
    worker_cores: int | None = option(
        None,
        "with --engine: CPU cores of each worker [4]",
        metavar="N",
        low=1,
        group=RUN,
        advanced=True,
        rows=False,
    )
    shards: int | None = option(
        None,
        "with --engine: number of shards; what is lost with a worker is one [one a worker]",
        metavar="N",
        low=1,
        group=RUN,
        advanced=True,
        rows=False,
    )
