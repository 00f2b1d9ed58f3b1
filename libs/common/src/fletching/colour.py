"""Colour on terminals: of errors and of --help.

NO_COLOR (https://no-color.org) takes it away. FORCE_COLOR asks for it where stdout or stderr is a
file or a pipe, as in the logs of a CI. Both count only where they are not empty; NO_COLOR wins.
"""

from __future__ import annotations

import os
import re
from typing import TextIO

STYLES = {"error": "1;31", "fix": "1;32", "heading": "1", "flag": "36"}

# The name of a tool before its error, and the word before what to do.
FIRST_WORD = re.compile(r"^[\w-]+:")
FIX = re.compile(r"^(  )(fix:)", re.MULTILINE)
# In --help: a heading of a group stands alone on its line; an option starts with its flags.
HEADING = re.compile(r"(?<=\n\n)([A-Za-z][^\n:.]*)(?=\n  \S)|^(usage|example|docs):", re.MULTILINE)
FLAGS = re.compile(r"^(  )((?:-\w, )?--[\w-]+)", re.MULTILINE)


def has_colour(stream: TextIO | None) -> bool:
    """Is what goes to this stream shown in colours?"""
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def paint(text: str, style: str) -> str:
    """The text in one of STYLES."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def paint_error(text: str) -> str:
    """`tool: what is wrong`, then `fix: what to do`."""
    named = FIRST_WORD.sub(lambda match: paint(match[0], "error"), text)
    return FIX.sub(lambda match: match[1] + paint(match[2], "fix"), named)


def paint_help(text: str) -> str:
    """The text of --help with headings and flags in colours."""
    with_headings = HEADING.sub(lambda match: paint(match[0], "heading"), text)
    return FLAGS.sub(lambda match: match[1] + paint(match[2], "flag"), with_headings)
