"""The terminal: its width and colours, and texts cut to it."""

from __future__ import annotations

import io
import os
import shutil
import sys

from rich.console import Console
from rich.text import Text

from arrowcat.printable import one_line

WIDTH = 100  # where nobody knows the width: stdout is a file or a pipe
NARROWEST = 20

# Styles by what is shown.
QUERY = "bold"
POSITIVE = "green"
NEGATIVE = "red"
FAINT = "dim"
HEADING = "bold cyan"
FAILURE = "bold red"


class PipeConsole(Console):
    """rich's console, for which a closed pipe is the business of `fletching.cli`."""

    def on_broken_pipe(self) -> None:
        """Pass the exception on: `arrowcat big | head -1` is no error."""
        raise BrokenPipeError


def open_console() -> PipeConsole:
    """A console on stdout, in colours on a terminal alone and never with NO_COLOR."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal without Unicode
    width = max(shutil.get_terminal_size((WIDTH, 24)).columns, NARROWEST)
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return PipeConsole(
        file=sys.stdout,
        width=width,
        color_system="auto" if is_coloured else None,
        force_terminal=is_coloured,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        legacy_windows=False,
    )


def print_line(console: Console, *parts: Text | str) -> None:
    """One line of styled parts, cut at the terminal's width."""
    line = Text(no_wrap=True, overflow="ellipsis", end="")
    for part in parts:
        line.append(part)
    line.truncate(console.width, overflow="ellipsis")
    console.print(line, no_wrap=True, overflow="ellipsis", crop=True)


def print_text(console: Console, text: str, style: str = "") -> None:
    """A sentence in full: a terminal breaks it, a pipe gets one line."""
    console.print(Text(text, style=style), soft_wrap=True)


def cell(text: str, style: str = "", *, columns: int = 200) -> Text:
    """A text of the data, safe to show, in a style."""
    return Text(one_line(text, columns), style=style)
