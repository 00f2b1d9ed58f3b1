"""Queries of code: the docstring of a Python function, or the comment before the code."""

from __future__ import annotations

import ast
import re
import textwrap

COMMENT_MARK = re.compile(r"^\s*(?://+!?|#+!?|--+|;+|/\*+|\*+/|\*+)\s?|\s*\*+/\s*$")
COMMENT_LINE = re.compile(r"^\s*(?://|#|--|;|/\*|\*)")
PARAGRAPH_END = re.compile(r"\n\s*\n")


def split_python(text: str) -> tuple[str, str] | None:
    """(docstring, code without it) of a function or class; None where there is no docstring."""
    try:
        body = ast.parse(textwrap.dedent(text)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    node = next((each for each in body if isinstance(each, definition)), None)
    docstring = ast.get_docstring(node) if node is not None else None
    if node is None or not docstring:
        return None
    statement = node.body[0]
    lines = text.split("\n")
    first, last = statement.lineno - 1, statement.end_lineno or statement.lineno
    if first < node.lineno:  # on the line of `def`
        return None
    return docstring, "\n".join([*lines[:first], *lines[last:]])


def split_comment(text: str) -> tuple[str, str] | None:
    """(comment, code behind it) where code begins with a comment of whole lines."""
    lines = text.strip("\n").split("\n")
    count = next(
        (number for number, line in enumerate(lines) if not COMMENT_LINE.match(line)), len(lines)
    )
    if not 0 < count < len(lines):
        return None
    comment = "\n".join(COMMENT_MARK.sub("", line).strip() for line in lines[:count])
    return comment.strip(), "\n".join(lines[count:]).strip("\n")


def summary(comment: str) -> str:
    """The first paragraph on one line."""
    return " ".join(PARAGRAPH_END.split(comment.strip())[0].split())
