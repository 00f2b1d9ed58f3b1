"""Python: functions and methods by their syntax tree; what is between them under its class."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from docs2texts.blocks import Document, LineIndex, TextBlock
from docs2texts.document_format import DocumentFormat, register


class Lines(NamedTuple):
    """Lines of one definition, or between definitions: from 0, `stop` not among them."""

    first: int
    stop: int
    names: tuple[str, ...]


def parse(document: Document) -> Iterator[TextBlock]:
    """Functions, methods and the code between them, each a section.

    Raises SyntaxError, RecursionError or MemoryError for what is no Python of this version.
    """
    tree = ast.parse(document.text)
    lines = LineIndex(document.text)
    parts = _parts(tree.body, Lines(0, len(lines), ()))
    for number, part in enumerate(parts):
        span = lines.lines_span(part.first, part.stop)
        text = document.text[span.start : span.end]
        if text.strip():
            headings = (document.source, *part.names)
            yield TextBlock(text=text, headings=headings, section=number, span=span, form="code")


def _parts(body: Sequence[ast.stmt], within: Lines) -> Iterator[Lines]:
    """The definitions of a body, and the lines before, between and behind them."""
    cursor = within.first
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        decorators = [decorator.lineno for decorator in node.decorator_list]
        first = max(min([node.lineno, *decorators]) - 1, cursor)
        stop = max(node.end_lineno or node.lineno, first)
        yield Lines(cursor, first, within.names)
        names = (*within.names, node.name)
        if isinstance(node, ast.ClassDef):
            yield from _parts(node.body, Lines(first, stop, names))
        else:
            yield Lines(first, stop, names)
        cursor = stop
    yield Lines(cursor, within.stop, within.names)


register(
    DocumentFormat(
        name="python",
        extensions=(".py", ".pyi"),
        parse=parse,
        is_code=True,
        fallback="other-source",
    )
)
