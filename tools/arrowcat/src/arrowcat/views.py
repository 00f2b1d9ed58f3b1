"""What arrowcat shows: rows, figures, the outcome of a check, lineage, a page."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from arrowcat.options import Options
from arrowcat.printable import one_line
from arrowcat.rows.input_rows import open_to_look, stored_rows, title_of
from arrowcat.rows.row_selection import NumberedRows, reading_limit, select_rows
from arrowcat.terminal.console import FAINT, open_console, print_line
from fletching import lineage
from fletching.io import Reader
from fletching.report import Report

LISTED_VIOLATIONS = 10  # rows of each broken promise


def show_rows(options: Options, report: Report) -> None:
    """The first rows, or those that are selected."""
    from arrowcat.terminal.row_view import print_rows

    reader = open_to_look(options, report, limit=reading_limit(options))
    parts = select_rows(reader, options, report)
    console = open_console()
    _print_heading(console, reader, options)
    printed = print_rows(console, reader.schema, parts)
    report.rows_out = printed
    if not printed:
        console.print(Text("no rows", style=FAINT))
    elif sys.stdout.isatty():
        _print_hint(console, reader, options)


def _print_heading(console: Console, reader: Reader, options: Options) -> None:
    """`pairs.parquet  examples 1.0, 12,034 rows, by csv2pairs → simfilter`."""
    schema = f"{reader.schema.name} {reader.schema.version}".strip()
    parts = [schema]
    total = stored_rows(options.inputs)
    if total is not None:
        parts.append(f"{total:,} rows")
    tools = [" → ".join(lineage.tools(node)) for node in reader.lineage_nodes if node]
    if tools:
        parts.append("by " + tools[0])
    title = Text(one_line(title_of(options.inputs), console.width), style="bold")
    details = Text("  " + one_line(", ".join(parts), console.width), style=FAINT)
    print_line(console, title, details)
    console.print()


def _print_hint(console: Console, reader: Reader, options: Options) -> None:
    """How to see more, for who looks at a terminal."""
    if reader.rows < (options.head or 0):
        return
    hint = "more: --head N, --sample N, --where SQL; --stats, --check, --lineage, --html PAGE"
    print_line(console, Text(hint, style=FAINT))


def show_statistics(options: Options, report: Report) -> None:
    """Figures of the rows."""
    from arrowcat.figures.table_statistics import TableStatistics
    from arrowcat.figures.text_measure import open_measure
    from arrowcat.terminal.statistics_view import print_statistics

    measure = open_measure(options.tokenizer)
    reader = open_to_look(options, report, limit=reading_limit(options))
    statistics = TableStatistics(reader.schema, reader.columns, measure)
    for part in _with_progress(select_rows(reader, options, report), options, report):
        statistics.add(part.batch)
    report.rows_out = statistics.rows
    report.measures["statistics"] = statistics.figures()
    console = open_console()
    _print_heading(console, reader, options)
    print_statistics(console, statistics)


def _with_progress(
    parts: Iterable[NumberedRows], options: Options, report: Report
) -> Iterator[NumberedRows]:
    total = stored_rows(options.inputs)
    with report.progress("reading", total=total) as progress:
        for part in parts:
            yield part
            progress.advance(part.batch.num_rows)


def show_check(options: Options, report: Report) -> int:
    """Every broken promise; 1 where there is one, else 0."""
    from arrowcat.rows.contract_check import check_inputs
    from arrowcat.terminal.check_view import print_check

    checked = check_inputs(options, report, most_shown=LISTED_VIOLATIONS)
    report.rows_out = report.rows_in
    violations = sum(result.violations for result in checked)
    report.measures["violations"] = violations
    print_check(open_console(), checked)
    return 1 if violations else 0


def show_lineage(options: Options, report: Report) -> None:
    """The chain of tools."""
    from arrowcat.terminal.lineage_view import print_lineage, read_ends

    reader = open_to_look(options, report, limit=options.limit)
    ends = read_ends(reader) if any(reader.lineage_nodes) else []
    report.rows_out = report.rows_in
    print_lineage(open_console(), title_of(options.inputs), reader, ends=ends)


def write_html(options: Options, report: Report, *, version: str) -> None:
    """The page."""
    from arrowcat.figures.text_measure import open_measure
    from arrowcat.page.html_page import PageContent, write_page

    assert options.html is not None
    measure = open_measure(options.tokenizer)
    reader = open_to_look(options, report, limit=reading_limit(options))
    content = PageContent(reader, measure, seed=options.seed)
    parts = _with_progress(select_rows(reader, options, report), options, report)
    report.rows_out = content.gather(parts)
    write_page(options.html, content, title=title_of(options.inputs), version=version)
