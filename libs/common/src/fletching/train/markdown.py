"""Texts of data as Markdown that shows them and does nothing else, and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARKUP = re.compile(r"[&<>`|\[\]*_\\]")


def bullet_list(lines: Sequence[str]) -> str:
    """Lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def printable(text: str) -> str:
    """A text with control characters as escapes; in JSON, the same JSON but for line ends."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def plain_text(text: str) -> str:
    """A text of the data as Markdown shows it: no element, link, code, table or line of its own."""
    return MARKUP.sub(lambda mark: f"&#{ord(mark[0])};", printable(text))


def code(text: str) -> str:
    """A text as code within a line, whatever backticks it holds."""
    shown = printable(text)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if "`" in shown else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def cell_code(text: str) -> str:
    """A text as code within a cell of a table, which no bar of it ends."""
    return code(text).replace("|", "\\|")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    header_line, *row_lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    rule = "|" + "---|" * len(header)
    return "\n".join([header_line, rule, *row_lines])
