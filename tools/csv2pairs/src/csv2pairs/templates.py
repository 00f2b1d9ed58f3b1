"""Texts from several cells: templates such as '{title}: {body}', and `col: value, col: value`."""

from __future__ import annotations

import string
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import UsageError


@dataclass(frozen=True)
class Template:
    """Literal text and columns in turn; a single column is the simplest one."""

    parts: tuple[tuple[str, str | None], ...]  # (text before, column or None at the end)
    text: str

    @property
    def columns(self) -> list[str]:
        return [name for _, name in self.parts if name is not None]

    @property
    def is_column(self) -> bool:
        return len(self.parts) == 1 and self.parts[0][0] == "" and self.parts[0][1] is not None

    def fill(self, batch: pa.RecordBatch) -> pa.StringArray:
        """The text of each row; an empty cell leaves nothing behind, and null where all cells are blank.

        >>> parse("{a}: {b}").fill(pa.record_batch({"a": ["x", ""], "b": [None, " "]})).to_pylist()
        ['x: ', None]
        """
        if self.is_column:
            return batch[self.columns[0]]
        pieces: list = []
        filled = None
        for literal, name in self.parts:
            pieces += [literal] if literal else []
            if name is not None:
                pieces.append(batch[name].fill_null(""))
                filled = (
                    present(batch[name]) if filled is None else pc.or_(filled, present(batch[name]))
                )
        return pc.if_else(
            filled, pc.binary_join_element_wise(*pieces, ""), pa.scalar(None, pa.string())
        )


def parse(text: str, option: str = "--template", column: bool = False) -> Template:
    """The template of a text; with `column`, a text without braces is the name of a column."""
    if column and "{" not in text:
        return Template((("", text),), text)
    fix = "write columns in braces, e.g. '{title}: {body}', and {{ for a brace"
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no template: {error}", fix) from None
    if any(spec or conversion for _, _, spec, conversion in parsed):
        raise UsageError(f"{option} {text!r} holds a format, which templates do not have", fix)
    if not any(name for _, name, _, _ in parsed) or any(name == "" for _, name, _, _ in parsed):
        raise UsageError(f"{option} {text!r} names no column", fix)
    return Template(tuple((literal, name) for literal, name, _, _ in parsed), text)


def fuse(templates: list[Template], batch: pa.RecordBatch) -> pa.StringArray:
    """`col: value, col: value` of the cells that hold something; a template stands as it is."""
    pieces = []
    for template in templates:
        cells = template.fill(batch)
        label = f"{template.text}: " if template.is_column else ""
        pieces.append(
            pc.if_else(
                present(cells),
                pc.binary_join_element_wise(label, pc.utf8_trim_whitespace(cells), ""),
                pa.scalar(None, pa.string()),
            )
        )
    fused = pc.binary_join_element_wise(*pieces, ", ", null_handling="skip")
    return pc.if_else(present(fused), fused, pa.scalar(None, pa.string()))


def present(cells: pa.StringArray) -> pa.BooleanArray:
    return pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(cells), ""), False)
