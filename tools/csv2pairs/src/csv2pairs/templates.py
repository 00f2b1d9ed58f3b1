"""Texts from several cells: templates such as '{title}: {body}', and `col: value, col: value`."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from polars import col

from fletching.errors import UsageError

NOT_BLANK = r"[^\s\x1c-\x1f]"


@dataclass(frozen=True)
class Template:
    """Literal text and columns in turn; a single column is the simplest one."""

    parts: tuple[tuple[str, str | None], ...]  # (text before, column or None at the end)
    text: str

    @property
    def columns(self) -> list[str]:
        """The columns that it takes cells from."""
        return [name for _, name in self.parts if name is not None]

    @property
    def is_column(self) -> bool:
        """Is it one column and no literal text?"""
        return len(self.parts) == 1 and self.parts[0][0] == ""

    def fill(self) -> pl.Expr:
        """The text of each row; an empty cell adds nothing, and all blank cells give null."""
        if self.is_column:
            return col(self.columns[0])
        pieces: list[pl.Expr] = []
        for literal, name in self.parts:
            cell = pl.lit("") if name is None else col(name).fill_null("")
            pieces += [pl.lit(literal), cell]
        any_filled = pl.any_horizontal(is_filled(col(name)) for name in self.columns)
        return pl.when(any_filled).then(pl.concat_str(pieces))


def parse(text: str, option: str = "--template") -> Template:
    """The template of an option's value; but for --template, a bare name is that of a column.

    Raises UsageError.
    """
    if option != "--template" and "{" not in text:
        return Template((("", text),), text)
    fix = "write columns in braces, e.g. '{title}: {body}', and {{ for a brace"
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a template: {error}", fix) from None
    if any(spec or conversion for _, _, spec, conversion in parsed):
        raise UsageError(
            f"{option} {text!r} contains a format specifier, which templates do not support", fix
        )
    names = [name for _, name, _, _ in parsed]
    if not any(names) or "" in names:
        raise UsageError(f"{option} {text!r} names no column", fix)
    return Template(tuple((literal, name) for literal, name, _, _ in parsed), text)


def fuse(templates: Sequence[Template]) -> pl.Expr:
    """`col: value, col: value` of the cells with text; a filled template has no label."""
    pieces = []
    for template in templates:
        text = template.fill()
        label = f"{template.text}: " if template.is_column else ""
        labelled = pl.concat_str(pl.lit(label), text.str.strip_chars())
        pieces.append(pl.when(is_filled(text)).then(labelled))
    fused = pl.concat_str(
        pieces,
        separator=", ",
        ignore_nulls=True,
    )
    return pl.when(is_filled(fused)).then(fused)


def is_filled(text: pl.Expr) -> pl.Expr:
    """Which cells are neither null nor blank."""
    return text.str.contains(NOT_BLANK).fill_null(False)
