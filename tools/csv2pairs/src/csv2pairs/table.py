"""The table of a run: the columns that the options name, and texts made of their cells."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import fields

import polars as pl
from polars import Expr, col, concat_str, lit, when

from csv2pairs.options import Options
from fletching.errors import UsageError
from fletching.io.tables import CellKind, TableOptions, TableReader
from fletching.report import Report

NOT_BLANK = r"[^\s\x1c-\x1f]"


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
    texts = {"--query": [options.query], "--template": [options.template, options.texts_template]}
    texts["--pos"] = [*options.pos]
    names = []
    for option, values in texts.items():
        for text in filter(None, values):
            names += template(text, option).meta.root_names()
    names += filter(None, (options.category, options.domain, options.id))
    return list(dict.fromkeys([*names, *options.split_by, *list_columns(options)]))


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


# --- texts of cells ---


def template(text: str, option: str = "--template") -> Expr:
    """The text of each row; null where all its cells are blank. An empty cell adds nothing.

    Of another option than --template, a bare name is that of a column. Raises UsageError.
    """
    if option != "--template" and "{" not in text:
        return col(text)
    fix = "write columns in braces, e.g. '{title}: {body}', and {{ for a brace"
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a template: {error}", fix) from None
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise UsageError(
            f"{option} {text!r} contains a format specifier, which templates do not support", fix
        )
    names = [name for _, name, _, _ in parts if name is not None]
    if not names or "" in names:
        raise UsageError(f"{option} {text!r} names no column", fix)
    pieces = []
    for literal, name, _, _ in parts:
        pieces.append(lit(literal))
        if name is not None:
            pieces.append(col(name).fill_null(""))
    any_filled = pl.any_horizontal(is_filled(col(name)) for name in names)
    return when(any_filled).then(concat_str(pieces))


def fuse(texts: Sequence[str]) -> Expr:
    """`col: value, col: value` of the cells with text; a filled template has no label."""
    pieces = []
    for text in texts:
        label = "" if "{" in text else f"{text}: "
        value = template(text, "--pos").str.strip_chars()
        pieces.append(when(is_filled(value)).then(lit(label) + value))
    return concat_str(pieces, separator=", ", ignore_nulls=True)


def is_filled(text: Expr) -> Expr:
    """Which cells are neither null nor blank."""
    return text.str.contains(NOT_BLANK).fill_null(False)
