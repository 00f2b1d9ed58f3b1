"""What the suite of mutated inputs knows of a reader: its command, its input, and what must hold of its output."""

from __future__ import annotations

import importlib.metadata
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Unreadable(Exception):
    """An independent reading has no opinion on this input."""


def never(path: Path) -> bool:
    return False


def nothing(folder: Path, got: Any) -> str:
    return ""


def installed(name: str) -> Callable[[list[str]], int]:
    """The entry point of an installed command."""

    def main(argv: list[str]) -> int:
        [entry] = importlib.metadata.entry_points(group="console_scripts", name=name)
        code: int = entry.load()(argv)
        return code

    return main


@dataclass(frozen=True, kw_only=True)
class FuzzedReader:
    """A command line over files in its working folder.

    files: (kind, share) by path, those that are mutated; the kind names their mutations.
    outputs: what must be absent after a refusal. output: what came out, after exit code 0.
    expected: the same from the mutated input by other code than ours; raises Unreadable.
    checksummed: does this mutated file still claim to be whole? Then nothing else may come out.
    holds: "" or the rule that an accepted input without an independent reading breaks.
    around: what stands beside the run, such as a server; gives more words of the command line.
    weight: of 1,000 cases, about how many it gets.
    """

    name: str
    line: str
    fill: Callable[[Path], None]
    files: dict[str, tuple[str, int]]
    output: Callable[[Path], Any]
    weight: int
    outputs: tuple[str, ...] = ()
    expected: Callable[[Path], Any] | None = None
    checksummed: Callable[[Path], bool] = never
    holds: Callable[[Path, Any], str] = nothing
    around: Callable[..., AbstractContextManager[list[str]]] | None = None
    program: Callable[[list[str]], int] | None = None
    is_quick: bool = True  # does it need neither torch nor a server?
    cpu_seconds: int = 10

    @property
    def is_command(self) -> bool:
        """Can the installed program read it, without torch?"""
        return self.is_quick and self.program is None

    def argv(self) -> list[str]:
        return shlex.split(self.line)[1:]

    def main(self, argv: list[str]) -> int:
        return (self.program or installed(shlex.split(self.line)[0]))(argv)
