"""Texts from several cells: templates such as '{title}: {body}', and `col: value, col: value`."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import UsageError

NULL = pa.scalar(None, pa.string())


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
        if len(self.parts) != 1:
            return False
        literal, name = self.parts[0]
        return literal == "" and name is not None

    def fill(self, batch: pa.RecordBatch) -> pa.StringArray:
        """The text of each row; an empty cell adds nothing, and all blank cells give null.

        >>> batch = pa.record_batch({"a": ["x", ""], "b": [None, " "]})
        >>> parse("{a}: {b}").fill(batch).to_pylist()
        ['x: ', None]
        """
        if self.is_column:
            return batch[self.columns[0]]
        pieces: list[str | pa.StringArray] = []
        any_filled = pa.scalar(False)
        for literal, name in self.parts:
            if literal:
                pieces.append(literal)
            if name is not None:
                cells = batch[name]
                pieces.append(cells.fill_null(""))
                any_filled = pc.or_(any_filled, is_filled(cells))
        joined = pc.binary_join_element_wise(*pieces, "")
        return pc.if_else(any_filled, joined, NULL)


def parse(text: str, option: str = "--template", *, column: bool = False) -> Template:
    """The template of an option's value. Raises UsageError.

    column: a text without braces is the name of a column.
    """
    if column and "{" not in text:
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
    parts = tuple((literal, name) for literal, name, _, _ in parsed)
    return Template(parts, text)


def fuse(templates: Sequence[Template], batch: pa.RecordBatch) -> pa.StringArray:
    """`col: value, col: value` of the cells with text; a filled template has no label."""
    pieces = []
    for template in templates:
        cells = template.fill(batch)
        label = f"{template.text}: " if template.is_column else ""
        labelled = pc.binary_join_element_wise(label, pc.utf8_trim_whitespace(cells), "")
        pieces.append(pc.if_else(is_filled(cells), labelled, NULL))
    fused = pc.binary_join_element_wise(*pieces, ", ", null_handling="skip")
    return pc.if_else(is_filled(fused), fused, NULL)


def is_filled(cells: pa.StringArray) -> pa.BooleanArray:
    """Which cells are neither null nor blank."""
    return pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(cells), ""), False)
