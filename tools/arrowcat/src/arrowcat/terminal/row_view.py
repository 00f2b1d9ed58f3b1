"""Rows on a terminal: examples with their texts below one another, other tables as they fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pyarrow as pa
from pyarrow.types import is_binary, is_fixed_size_list, is_list, is_map, is_struct
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arrowcat.rows.row_selection import NumberedRows
from arrowcat.terminal.cell_text import (
    SHOWN_ITEMS,
    aligned_scores,
    bare,
    cell_of,
    column_label,
    folded,
    row_number,
)
from arrowcat.terminal.console import FAINT, HEADING, NEGATIVE, POSITIVE, QUERY, cell, print_line
from fletching.schema import Schema

SLICE = 100  # rows that are turned into Python values at a time
NAMES = ("id", "task", "domain")
INDENT = " " * 6
SHOWN_COLUMNS = 1000  # of a row
WIDEST_LABEL = 20  # columns of the terminal that the names of columns are padded to
NARROWEST_COLUMN = 9  # of a table, in columns of the terminal

Row = dict[str, Any]  # what RecordBatch.to_pylist gives

# What a line of its own shows of an example, and what stands beside it.
EXAMPLE_FIELDS = {
    "id", "query", "pos", "neg", "pos_ids", "neg_ids", "pos_scores", "neg_scores",
    "pos_score_kind", "neg_score_kind", "prompt", "task", "domain",
}  # fmt: skip


class RowPrinter(Protocol):
    """What prints rows of one shape."""

    def print_rows(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        """Print rows, each with its number in the input."""


def print_rows(console: Console, schema: Schema, parts: Iterable[NumberedRows]) -> int:
    """Print all rows in the shape that fits their schema; how many there were."""
    printer: RowPrinter | None = None
    printed = 0
    for part in parts:
        if printer is None:
            printer = _printer_for(console, schema, part.batch.schema)
        for start in range(0, part.batch.num_rows, SLICE):
            numbers = part.numbers[start : start + SLICE].tolist()
            printer.print_rows(numbers, part.batch.slice(start, SLICE).to_pylist())
            printed += len(numbers)
    return printed


def _printer_for(console: Console, schema: Schema, columns: pa.Schema) -> RowPrinter:
    if schema.name == "examples":
        return ExamplePrinter(console)
    if schema.name == "texts":
        return TextPrinter(console)
    nested = any(_is_nested(field.type) for field in columns)
    if nested or len(columns) * NARROWEST_COLUMN > console.width:
        return RecordPrinter(console)
    return TablePrinter(console, columns)


def _is_nested(kind: pa.DataType) -> bool:
    has_items = is_list(kind) or is_fixed_size_list(kind) or is_map(kind)
    return bool(has_items or is_struct(kind) or is_binary(kind))


class ExamplePrinter:
    """A query, its positives and its hard negatives, with scores; then what else the row has."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def print_rows(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        """A block of lines for each row."""
        for number, row in zip(numbers, rows):
            self._print_row(number, row)

    def _print_row(self, number: int, row: Row) -> None:
        query = cell_of(row.get("query"), QUERY, self.console.width)
        print_line(self.console, row_number(number), query)
        named = [name for name in NAMES if row.get(name)]
        if named:
            details = [f"{name} {row[name]}" for name in named]
            self._print_faint(" · ".join(details))
        if row.get("prompt") is not None:
            self._print_faint(f"prompt {row['prompt']!r}")
        self._print_texts(row, "pos", sign="+", style=POSITIVE)
        self._print_texts(row, "neg", sign="-", style=NEGATIVE)
        others = {
            name: value
            for name, value in row.items()
            if name not in EXAMPLE_FIELDS and value is not None
        }
        for name, value in itertools.islice(others.items(), SHOWN_COLUMNS):
            self._print_faint(f"{name} {bare(value)}")
        if len(others) > SHOWN_COLUMNS:
            self._print_faint(f"… {len(others) - SHOWN_COLUMNS:,} more columns")
        self.console.print()

    def _print_faint(self, text: str) -> None:
        print_line(self.console, INDENT, cell(text, FAINT, columns=self.console.width))

    def _print_texts(self, row: Row, side: str, *, sign: str, style: str) -> None:
        texts = row.get(side)
        marked = Text(f"{INDENT}{sign} ", style=style)
        if texts is None:
            return
        if not texts:
            print_line(self.console, marked, Text("none", style=FAINT))
            return
        scores = aligned_scores(row, side, size=len(texts))
        for text, score in zip(texts[:SHOWN_ITEMS], scores):
            line = Text.assemble(marked, (score, FAINT))
            print_line(self.console, line, cell_of(text, "", self.console.width))
        hidden = len(texts) - SHOWN_ITEMS
        if hidden > 0:
            more = Text(f"… {hidden:,} more", style=FAINT)
            print_line(self.console, marked, more)


class TextPrinter:
    """A text, its title above it where it has one."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def print_rows(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        """A few lines for each row."""
        columns = self.console.width
        for number, row in zip(numbers, rows):
            lines = [cell_of(row.get("text"), "", columns)]
            if row.get("title"):
                lines.insert(0, cell_of(row["title"], QUERY, columns))
            for position, line in enumerate(lines):
                margin = INDENT if position else row_number(number)
                print_line(self.console, margin, line)
            details = []
            for name, value in row.items():
                if name not in ("text", "title") and value is not None:
                    details.append(f"{name} {bare(value)}")
            if details:
                shown = cell(" · ".join(details), FAINT, columns=columns)
                print_line(self.console, INDENT, shown)


class TablePrinter:
    """Flat rows as a table; every column gets its share of the terminal."""

    def __init__(self, console: Console, columns: pa.Schema) -> None:
        self.console, self.columns = console, columns

    def print_rows(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        """A table of these rows."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style=HEADING)
        table.add_column("", style=FAINT, justify="right", no_wrap=True)
        for field in self.columns:
            is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            table.add_column(
                column_label(field.name),
                justify="right" if is_number else "left",
                no_wrap=True,
                overflow="ellipsis",
            )
        for number, row in zip(numbers, rows):
            cells = []
            for name in self.columns.names:
                shown = cell_of(row[name], "", self.console.width)
                cells.append(shown)
            table.add_row(f"{number:,}", *cells)
        self.console.print(table)


class RecordPrinter:
    """Any row: a line for each column, lists folded."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def print_rows(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        """A block of lines for each row."""
        for number, row in zip(numbers, rows):
            width = max((len(name) for name in row), default=0)
            for position, (name, value) in enumerate(itertools.islice(row.items(), SHOWN_COLUMNS)):
                label = column_label(name, HEADING)
                gap = min(width, WIDEST_LABEL) - label.cell_len + 2
                label.append(" " * max(gap, 1))
                label.append_text(folded(value, self.console.width))
                margin = INDENT if position else row_number(number)
                print_line(self.console, margin, label)
            if len(row) > SHOWN_COLUMNS:
                hidden = f"… {len(row) - SHOWN_COLUMNS:,} more columns"
                print_line(self.console, INDENT, Text(hidden, style=FAINT))
            self.console.print()
