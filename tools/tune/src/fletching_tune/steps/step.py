"""One command of another program, what it reads and what it leaves."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fletching_tune.options import Stage


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command line.

    name: unique in a run. argv: the program and its arguments. inputs: files and folders whose
    content decides the outcome; models: folders or hub names. outputs: files and folders that are
    there when it is done. leftovers: what a killed run of it may leave, for itself to go on from.
    stdout: a file that takes its standard output, one of the outputs.
    """

    name: str
    stage: Stage
    argv: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    stdout: str | None = None

    @property
    def program(self) -> str:
        """The name of the program."""
        return self.argv[0]

    @property
    def line(self) -> str:
        """The command as a shell takes it, every blank and quote in its words intact."""
        line = shlex.join(self.argv)
        return line if self.stdout is None else f"{line} > {shlex.quote(self.stdout)}"


def listed(flag: str, values: Iterable[str]) -> list[str]:
    """`--flag a --flag b`; a value with a comma is quoted, since options of lists are split."""
    return [word for value in values for word in (flag, list_value(value))]


def list_value(value: str) -> str:
    """One value of an option that takes a list, quoted as in CSV where it has to be."""
    if not set(value) & set(',"\n'):
        return value
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([value])
    return text.getvalue()


def arguments(words: Sequence[str]) -> list[str]:
    """Positional arguments, behind `--` where one of them looks like an option."""
    return ["--", *words] if any(word.startswith("-") for word in words) else list(words)
