"""The table of a run: which columns the options read, and as what."""

from __future__ import annotations

from collections.abc import Iterator

from csv2pairs import templates
from csv2pairs.options import Options
from fletching.io.tables import CellKind, TableOptions, TableReader
from fletching.report import Report


def open_inputs(options: Options, report: Report) -> TableReader:
    """All inputs as one table of the columns that the options name."""
    required = required_columns(options)
    wanted = dict.fromkeys([*required, *options.keep], CellKind.TEXT)
    return TableReader(
        options.inputs,
        table_options(options),
        report,
        columns=wanted,
        required=required,
        limit=options.limit,
    )


def table_options(options: Options) -> TableOptions:
    """How the inputs are written."""
    return TableOptions(
        encoding=options.encoding,
        delimiter=options.delimiter,
        quote=options.quote,
        escape=options.escape,
        columns=options.columns,
        null=options.null,
        bad_rows=options.bad_rows,
    )


def note_joined_lists(table: TableReader, report: Report) -> None:
    """Tell the user of lists that became one text."""
    for name, cells in table.joined_lists.items():
        if not cells:
            continue
        note = f"column `{name}` holds lists in {cells:,} rows; each became one text"
        if name in ("pos", "neg") and {"query", "pos"} <= table.columns_seen:
            note += (
                "; rows of `query` and `pos` are examples already, "
                "which the other tools read as they are"
            )
        report.note(note)


def required_columns(options: Options) -> list[str]:
    """The columns that every input must have, once each. Raises UsageError on a bad template."""
    names: list[str] = []
    for option, text in _templates(options):
        template = templates.parse(text, option, column=option != "--template")
        names += template.columns
    single = [options.category, options.domain, options.id, *options.split_by]
    names += [name for name in single if name]
    return list(dict.fromkeys(names))


def _templates(options: Options) -> Iterator[tuple[str, str]]:
    """(option, value) of everything that may be a template."""
    if options.query:
        yield "--query", options.query
    if options.template:
        yield "--template", options.template
    if options.texts_template:
        yield "--template", options.texts_template
    for text in options.pos:
        yield "--pos", text
