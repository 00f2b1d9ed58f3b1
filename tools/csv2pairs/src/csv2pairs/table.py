"""The table of a run: which columns the options read, and as what."""

from __future__ import annotations

from collections.abc import Iterator

from csv2pairs import templates
from csv2pairs.options import Options
from fletching.errors import UsageError
from fletching.io.tables import CellKind, TableOptions, TableReader
from fletching.report import Report


def open_inputs(options: Options, report: Report) -> TableReader:
    """All inputs as one table of the columns that the options name."""
    required = required_columns(options)
    columns = dict.fromkeys(options.keep, CellKind.JSON)
    columns |= dict.fromkeys(required, CellKind.TEXT)
    columns |= {name: CellKind.LIST for name in list_columns(options)}
    return TableReader(
        options.inputs,
        table_options(options),
        report,
        columns={name: columns[name] for name in dict.fromkeys([*required, *options.keep])},
        required=required,
        separators=separators(options),
        limit=options.limit,
    )


def list_columns(options: Options) -> list[str]:
    """The columns whose cells may hold several texts."""
    names = [*options.neg]
    if options.mode in ("each", "list"):
        names += [text for text in options.pos if "{" not in text]
    names += [name for name in (options.pos_id, options.neg_id, options.score) if name]
    return names


def separators(options: Options) -> dict[str, str]:
    """What --separator says, by column. Raises UsageError."""
    separators = {}
    for item in options.separator:
        name, _, text = item.partition("=")
        if not (name and text):
            raise UsageError(
                f"--separator {item!r} is not COL=TEXT", "write e.g. --separator synonyms=';'"
            )
        if name not in list_columns(options):
            raise UsageError(
                f"--separator {name}: not a column of several texts",
                "name a column of --pos (in --mode each or list) or --neg, or of their ids",
            )
        separators[name] = text.replace("\\t", "\t").replace("\\n", "\n")
    return separators


def table_options(options: Options) -> TableOptions:
    """How the inputs are written."""
    return TableOptions(
        encoding=options.encoding,
        delimiter=options.delimiter,
        quote=options.quote,
        escape=options.escape,
        columns=options.columns,
        null=options.null,
        sheet=options.sheet,
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
    single = [options.category, options.domain, options.id, *options.split_by, *options.neg]
    single += [options.pos_id, options.neg_id, options.score]
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
