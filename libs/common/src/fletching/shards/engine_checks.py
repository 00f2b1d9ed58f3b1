"""What `--engine` cannot run, found before anything is imported or read."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any, Protocol, TypeVar

from fletching.errors import InputError, UsageError
from fletching.table import atomic

LOCAL, RAY = "local", "ray"


class EngineRun(Protocol):
    """The options of a tool that an engine can run."""

    @property
    def engine(self) -> str | None:
        """--engine."""

    @property
    def workers(self) -> int | None:
        """--workers."""

    @property
    def worker_cores(self) -> int | None:
        """--worker-cores."""

    @property
    def shards(self) -> int | None:
        """--shards."""

    @property
    def shard(self) -> str | None:
        """--shard."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is read."""

    @property
    def output(self) -> str | None:
        """-o."""


RunOptions = TypeVar("RunOptions")


def check_engine(options: EngineRun) -> None:
    """Raise UsageError where --engine cannot run these options, InputError without Ray."""
    if options.engine is None:
        _refuse_options_of_engines(options)
        return
    check_engine_name(options.engine)
    output = options.output
    if output is None or output.startswith("-") or atomic.is_special(output):
        raise UsageError(
            "--engine keeps its shards beside the output, which is no file",
            "name one: -o OUT.parquet",
        )
    if not options.inputs or "-" in options.inputs:
        raise UsageError(
            "--engine reads its input once for each shard, and stdin can be read once",
            "name files",
        )
    if options.shard is not None:
        raise UsageError("--engine runs all shards, and --shard is one", "leave one of them out")


def _refuse_options_of_engines(options: EngineRun) -> None:
    of_engines = {
        "--workers": options.workers,
        "--worker-cores": options.worker_cores,
        "--shards": options.shards,
    }
    for flag, value in of_engines.items():
        if value is not None:
            fix = f"add --engine local, or leave {flag} out"
            raise UsageError(f"{flag} belongs to --engine, which is missing", fix)


def check_engine_name(name: str) -> None:
    """Raise UsageError for an engine that is unknown, InputError for one that is not installed."""
    kind, colon, address = name.partition(":")
    if kind not in (LOCAL, RAY) or (kind == LOCAL and colon) or (colon and not address):
        raise UsageError(
            f"--engine {name} is unknown", "pass local, ray, ray:auto or ray:HOST:PORT"
        )
    if kind == RAY and importlib.util.find_spec("ray") is None:
        raise InputError(
            "--engine ray needs Ray, which is not installed", "pip install 'fletching[ray]'"
        )


def as_shard(options: RunOptions, flag: str = "shard") -> RunOptions:
    """The options of one of the shards, for the checks that they will meet."""
    of_engines = dict.fromkeys(("engine", "workers", "worker_cores", "shards"))
    changes: dict[str, Any] = {**of_engines, flag: "0/1"}
    return dataclasses.replace(options, **changes)  # type: ignore[type-var]
