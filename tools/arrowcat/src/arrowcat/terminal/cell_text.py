"""Values of rows as short texts: nulls named, lists folded, numbers with few digits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from rich.text import Text

from arrowcat.terminal.console import FAINT, NEGATIVE, cell
from fletching.column_mapping import shown_value

SHOWN_ITEMS = 3  # of a list; the rest is counted
SHOWN_NUMBERS = 4  # of a vector
SEPARATOR = "  |  "
LONGEST_ITEM = 60  # of a folded list, in letters


def row_number(number: int) -> Text:
    """The number of a row, as wide as the margin of its other lines."""
    return Text(f"{number:>4,}  ", style=FAINT)


def column_label(name: str, style: str = "") -> Text:
    """The name of a column."""
    return cell(name or "(no name)", style)


def cell_of(value: object, style: str, columns: int) -> Text:
    """One value, safe to show; what is null or empty is named."""
    if value is None:
        return Text("null", style="italic " + NEGATIVE)
    if value == "":
        return Text("(empty)", style="italic " + FAINT)
    return cell(bare(value), style, columns=columns)


def bare(value: object) -> str:
    """A value as text, strings without quotation marks."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, bool | int):
        return str(value)
    if _is_vector(value):
        return _format_vector(value)
    return shown_value(value)


def _is_vector(value: object) -> TypeGuard[list[float]]:
    """Is it a list of numbers?"""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, int | float) for item in value)


def folded(value: object, columns: int) -> Text:
    """A list by its first items and their number, a vector by its first numbers and its norm."""
    if not isinstance(value, list) or not value or _is_vector(value):
        return cell_of(value, "", columns)
    items = [one_item(item) for item in value[:SHOWN_ITEMS]]
    hidden = len(value) - SHOWN_ITEMS
    if hidden > 0:
        items.append(f"… {hidden:,} more")
    shown = Text(f"[{len(value)}] ", style=FAINT)
    shown.append_text(cell(SEPARATOR.join(items), "not dim", columns=columns))
    return shown


def one_item(item: object) -> str:
    """An item of a list, short enough that others fit beside it."""
    text = "null" if item is None else bare(item)
    if len(text) <= LONGEST_ITEM:
        return text
    return text[: LONGEST_ITEM - 1] + "…"


def _format_vector(numbers: Sequence[float]) -> str:
    shown = [format_number(number) for number in numbers[:SHOWN_NUMBERS]]
    first = ", ".join(shown)
    if len(numbers) <= SHOWN_NUMBERS:
        return f"[{first}]"
    norm = format_number(math.hypot(*numbers))
    return f"[{first}, …] {len(numbers):,} numbers, norm {norm}"


def aligned_scores(row: Mapping[str, Any], side: str, *, size: int) -> list[str]:
    """The score of each text of a side, aligned, the first with its kind; else nothing."""
    scores = row.get(f"{side}_scores")
    if not isinstance(scores, list) or len(scores) != size:
        return [""] * size
    first = scores[:SHOWN_ITEMS]
    largest = max((abs(score) for score in first if score is not None), default=0)
    digits = 3 if largest < 10 else 1
    shown = []
    for score in first:
        text = "null" if score is None else f"{score:.{digits}f}"
        shown.append(text)
    width = max(map(len, shown), default=0)
    aligned = [text.rjust(width) for text in shown]
    return [text + "  " for text in aligned]


def format_number(number: float) -> str:
    """Three digits after the point below 10, fewer above."""
    if not math.isfinite(number):
        return str(number)
    if number == int(number):
        return f"{number:,.0f}"
    if abs(number) < 10:
        return f"{number:.3f}"
    return f"{number:,.1f}"
