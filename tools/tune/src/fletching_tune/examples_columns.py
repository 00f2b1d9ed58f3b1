"""Tables that are `examples` already: what their columns are called, and which of them are used.

Names and aliases are those of the schema, so that `anchor`, `positive`, `negative` do as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from fletching import schema
from fletching.errors import UsageError
from fletching.io.sources import resolve
from fletching.io.tables import TableOptions, file_extensions, open_table
from fletching.report import Report
from fletching_tune.options import Options
from fletching_tune.steps.step import listed

SHOWN_COLUMNS = 12
# Flags of csv2pairs by field. Ids of documents and scores are left out: held-out rows are ranked
# among texts without ids, and every candidate learns from pairs.
FLAGS = {
    "query": "--query",
    "pos": "--pos",
    "neg": "--neg",
    "id": "--id",
    "domain": "--domain",
    "prompt": "--keep",
    "task": "--keep",
}


def examples_words(options: Options, tables: Sequence[str], report: Report) -> list[str]:
    """The words of csv2pairs for tables of `examples`; notes what of them is left out.

    Raises UsageError for tables without queries or positives.
    """
    present = _column_names(options, tables)
    words: list[str] = []
    left_out = []
    for field in schema.load("examples").fields:
        name = next((name for name in field.names if name in present), None)
        flag = FLAGS.get(field.name)
        if name is None:
            _check_optional(field, present, tables)
        elif flag is None:
            left_out.append(f"`{name}`")
        elif flag == "--keep" or not getattr(options, flag.removeprefix("--")):
            words += listed(flag, [name])
    if options.mode == "each":
        words += ["--mode", "list"]
    if left_out:
        report.note(f"{', '.join(left_out)} of {tables[0]} take no part in tuning")
    return words


def _check_optional(field: schema.Field, present: Sequence[str], tables: Sequence[str]) -> None:
    """Raise UsageError for a field that `examples` must have."""
    if not field.required:
        return
    shown = [f"`{name}`" for name in present[:SHOWN_COLUMNS]]
    more = ", …" if len(present) > SHOWN_COLUMNS else ""
    raise UsageError(
        f"--query is missing, and {tables[0]} has no column `{field.name}` as `examples` have; "
        f"it has {', '.join(shown) or 'no column'}{more}",
        "name the columns that people search with and that answer: --query COL --pos COL",
    )


def _column_names(options: Options, tables: Sequence[str]) -> list[str]:
    """The columns of all tables, in their order. Rows of JSON are all read: each has its own."""
    settings = {field.name: getattr(options, field.name) for field in fields(TableOptions)}
    quiet = Report("columns", quiet=True)
    names: dict[str, None] = {}
    for source in resolve(tables, extensions=file_extensions()):
        table = open_table(source, TableOptions(**settings), quiet, columns={})
        if table.columns is None:
            for _ in table.batches():
                pass
        names |= dict.fromkeys(table.columns or ())
    return list(names)
