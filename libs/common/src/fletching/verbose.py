"""What --verbose adds on stderr: versions and options, memory and time, tracebacks of errors."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import sys
import traceback
from collections.abc import Iterator
from typing import Protocol

from fletching.options.fields import describe
from fletching.report import print_line

MACOS = "darwin"


class NamedTool(Protocol):
    """A command."""

    @property
    def name(self) -> str:
        """The name of its program."""

    @property
    def version(self) -> str:
        """The version of its package."""


@contextlib.contextmanager
def details(tool: NamedTool, options: object) -> Iterator[None]:
    """Print versions and the options that were set, then what the block took or its traceback."""
    for line in [_versions(tool), *_set_options(options)]:
        print_line(f"{tool.name}: {line}")
    before = os.times()
    try:
        yield
    except BrokenPipeError:  # `| head` is no error
        raise
    except Exception:
        print_line(traceback.format_exc().rstrip())
        raise
    finally:
        print_line(f"{tool.name}: {_taken(before)}")


def _versions(tool: NamedTool) -> str:
    common = importlib.metadata.version("fletching")
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return f"{tool.name} {tool.version}, fletching {common}, {system}"


def _set_options(options: object) -> list[str]:
    """`--batch 64` for each option that differs from its default."""
    lines = []
    for name, opt in describe(type(options)).items():
        value = getattr(options, name)
        if value == opt.default or name == "verbose":
            continue
        if isinstance(value, bool):
            lines.append(opt.flag if value else opt.negated_flag)
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        lines.append(f"{opt.metavar if opt.positional else opt.flag} {text}")
    return lines


def _taken(before: os.times_result) -> str:
    """`at most 512 MB of memory, 3.1 s of processor time`."""
    after = os.times()
    seconds = after.user + after.system - before.user - before.system
    unit = 1 if sys.platform == MACOS else 1024  # ru_maxrss: bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return f"at most {peak:,.0f} MB of memory, {seconds:.1f} s of processor time"
