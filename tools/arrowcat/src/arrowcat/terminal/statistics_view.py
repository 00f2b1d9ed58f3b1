"""Figures of a table on a terminal: tables, and histograms of blocks."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arrowcat.figures.distributions import Bin, Summary
from arrowcat.figures.table_statistics import ColumnStatistics, TableStatistics
from arrowcat.printable import number_of
from arrowcat.rows.input_rows import type_name
from arrowcat.terminal.cell_text import column_label, format_number
from arrowcat.terminal.console import FAINT, HEADING, NEGATIVE, cell

BINS = 12
BAR_COLUMNS = 30  # of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉"
NOUNS = {"pos": "positives", "neg": "negatives"}
MOST_GROUPS = 15
MOST_VALUES = 8


def print_statistics(console: Console, statistics: TableStatistics) -> None:
    """All figures, one below another."""
    columns = list(statistics.columns.values())
    _print_columns(console, columns, statistics.measure.unit)
    _print_duplicates(console, statistics)
    for column in columns:
        is_of_texts = column.is_list and not column.numbers.parts and not column.is_name
        if is_of_texts and column.items.counts:
            _print_items(console, column)
    for column in columns:
        if not column.is_name and column.numbers.parts:
            _print_numbers(console, column, statistics)
    for name in statistics.groups:
        _print_groups(console, statistics, name)


def _print_columns(console: Console, columns: Sequence[ColumnStatistics], unit: str) -> None:
    table = _table(f"columns, lengths in {unit}")
    table.add_column("column", no_wrap=True, overflow="ellipsis")
    table.add_column("type", style=FAINT, no_wrap=True, overflow="ellipsis")
    for heading in ("null", "empty", "least", "median", "95 %", "most"):
        table.add_column(heading, justify="right", no_wrap=True)
    for column in columns:
        summary = column.lengths.summary()
        figures = _figures(summary) if summary else [""] * 4
        counts = [_count(column.nulls), _count(column.empty)]
        kind = type_name(column.type)
        table.add_row(column_label(column.name), kind, *counts, *figures)
    console.print(table)
    console.print()


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style=HEADING,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style=FAINT,
    )


def _count(count: int) -> Text:
    return Text(f"{count:,}", style=NEGATIVE) if count else Text("")


def _figure(value: float | None) -> str:
    return "" if value is None else format_number(value)


def _figures(summary: Summary) -> list[str]:
    figures = (summary.least, summary.median, summary.p95, summary.most)
    return [format_number(figure) for figure in figures]


def _print_duplicates(console: Console, statistics: TableStatistics) -> None:
    duplicates = statistics.duplicates
    if duplicates is None:
        return
    _print_heading(console, "duplicates", "equal after normalisation")
    rows = max(statistics.rows, 1)
    texts, pairs = duplicates.repeated_texts, duplicates.repeated_pairs
    share = texts / rows
    repeated = f"{texts:,} rows ({share:.1%})"
    console.print(f"  {repeated} repeat the {statistics.main} of a row before")
    if "pos" in statistics.columns:
        console.print(f"  {pairs:,} (query, positive) pairs came up before")
    console.print()


def _print_items(console: Console, column: ColumnStatistics) -> None:
    summary = column.items.summary()
    assert summary is not None
    noun = NOUNS.get(column.name, f"items of {column.name}")
    note = f"mean {format_number(summary.mean)}"
    if column.nulls:
        note += f", null in {number_of(column.nulls, 'row')}"
    _print_heading(console, f"{noun} a row", note)
    if summary.least == summary.most:
        each = format_number(summary.least)
        console.print(f"  {each} in each of {summary.count:,} rows")
        console.print()
        return
    print_histogram(console, column.items.bins(BINS), whole=True)


def _print_numbers(console: Console, column: ColumnStatistics, statistics: TableStatistics) -> None:
    summary = column.numbers.summary()
    if summary is None:
        return
    notes = [
        f"mean {format_number(summary.mean)}",
        f"median {format_number(summary.median)}",
    ]
    for name, count in _score_kinds(column, statistics):
        notes.append(f"{name} in {count:,} rows")
    if column.numbers.not_finite:
        notes.append(f"{column.numbers.not_finite:,} not finite")
    _print_heading(console, column.numbers_name, ", ".join(notes))
    print_histogram(console, column.numbers.bins(BINS), whole=False)


def _score_kinds(column: ColumnStatistics, statistics: TableStatistics) -> list[tuple[str, int]]:
    """What a column of scores measures, in how many rows."""
    side = column.name.removesuffix("_scores")
    kinds = statistics.columns.get(f"{side}_score_kind")
    if side == column.name or kinds is None:
        return []
    return kinds.values.most_common(MOST_VALUES)


def _print_heading(console: Console, name: str, note: str) -> None:
    console.print(cell(name, HEADING), cell(note, FAINT), sep="  ")


def print_histogram(console: Console, bins: Sequence[Bin], *, whole: bool) -> None:
    """A line a bin: its range, a bar and its count. whole: are the values whole numbers?"""
    labels = [bin_.label(whole=whole) for bin_ in bins]
    width = max(map(len, labels), default=0)
    counts = [bin_.count for bin_ in bins]
    largest = max(counts, default=1)
    for label, count in zip(labels, counts):
        line = Text(f"  {label.rjust(width)} ")
        line.append(_bar(count / largest), style="cyan")
        line.append(f"{count:,}")
        console.print(line)
    console.print()


def _bar(share: float) -> str:
    """Blocks in eighths of a column; a count above 0 shows at least one."""
    eighths = round(share * BAR_COLUMNS * 8)
    if share > 0:
        eighths = max(eighths, 1)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "") + " "


def _print_groups(console: Console, statistics: TableStatistics, name: str) -> None:
    group = statistics.groups[name]
    records = group.records(MOST_GROUPS)
    if len(records) < 2:
        return
    table = _table(f"by {name}")
    table.add_column(name, no_wrap=True, overflow="ellipsis")
    headings = [key for key in records[0] if key != "group"]
    for key in headings:
        table.add_column(key.replace("_", " "), justify="right", no_wrap=True)
    for record in records:
        label = "null" if record["group"] is None else record["group"]
        figures = [_figure(record[key]) for key in headings]
        table.add_row(cell(label), *figures)
    console.print(table)
    console.print()
    hidden = len(group) - len(records)
    if hidden:
        console.print(Text(f"… {hidden:,} more", style=FAINT))
