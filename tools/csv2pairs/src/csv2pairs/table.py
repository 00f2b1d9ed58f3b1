"""The table of a run: which columns the options read, and as what."""

from __future__ import annotations

from dataclasses import fields

from csv2pairs import templates
from csv2pairs.options import Options
from fletching.errors import UsageError
from fletching.io.tables import CellKind, TableOptions, TableReader
from fletching.report import Report


def open_inputs(options: Options, report: Report) -> TableReader:
    """All inputs as one table of the columns that the options name."""
    required = required_columns(options)
    columns = dict.fromkeys([*required, *options.keep], CellKind.JSON)
    columns |= dict.fromkeys(required, CellKind.TEXT)
    columns |= dict.fromkeys(list_columns(options), CellKind.LIST)
    return TableReader(
        options.inputs,
        table_options(options),
        report,
        columns=columns,
        required=required,
        separators=separators(options),
        limit=options.limit,
    )


def required_columns(options: Options) -> list[str]:
    """The columns that every input must have, once each. Raises UsageError on a bad template."""
    texts = [("--query", options.query), ("--template", options.template)]
    texts += [("--template", options.texts_template)]
    texts += [("--pos", text) for text in options.pos]
    parsed = [templates.parse(text, option) for option, text in texts if text]
    names = [name for template in parsed for name in template.columns]
    names += [*filter(None, (options.category, options.domain, options.id)), *options.split_by]
    return list(dict.fromkeys([*names, *list_columns(options)]))


def list_columns(options: Options) -> list[str]:
    """The columns whose cells may hold several texts."""
    names = [*options.neg]
    if options.mode in ("each", "list"):
        names += [text for text in options.pos if "{" not in text]
    return names + [name for name in (options.pos_id, options.neg_id, options.score) if name]


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
        **{field.name: getattr(options, field.name) for field in fields(TableOptions)}
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
