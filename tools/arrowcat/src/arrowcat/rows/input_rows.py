"""The inputs as rows to look at: of one of the five schemas, or of any other table."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq

from arrowcat.options import Options
from arrowcat.printable import escape
from fletching import schema as contract
from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.sources import resolve
from fletching.report import Report
from fletching.schema import Schema

# Without a stamp the first one whose columns are there: tasks have all columns of texts.
# The last resort of `Reader`: a schema without required columns fits every table.
BY_COLUMNS = ("examples", "tasks", "texts", "vectors", "measures", "candidates")
FOREIGN = Schema("table", "", "A table of none of the five schemas.", fields=())


def schemas_of(options: Options) -> list[Schema]:
    """The schemas that the rows may be of, the likeliest first."""
    names = [options.schema] if options.schema else list(BY_COLUMNS)
    return [contract.load(name) for name in names]


def open_to_look(options: Options, report: Report, *, limit: int | None) -> Reader:
    """All rows, those that break a promise too; a table that fits no schema is read as it is.

    Raises InputError where an input is damaged.
    """
    schemas = schemas_of(options)
    if not options.schema:
        schemas.append(FOREIGN)
    try:
        return Reader(report, options.inputs, schemas, limit=limit, checked=False)
    except InputError as error:
        if options.schema or not _can_be_opened_again(options.inputs):
            raise
        # Columns of our names and of other types: a table that has nothing to do with us.
        try:
            reader = Reader(report, options.inputs, [FOREIGN], limit=limit, checked=False)
        except InputError:
            raise error from None
        report.note(f"{error.what}: shown as it is")
        return reader


def _can_be_opened_again(inputs: tuple[str, ...]) -> bool:
    return bool(inputs) and "-" not in inputs


def title_of(inputs: tuple[str, ...]) -> str:
    """What to call the inputs: `pairs.parquet`, `3 inputs`, `stdin`."""
    if len(inputs) > 1:
        return f"{len(inputs)} inputs"
    if not inputs or inputs[0] == "-":
        return "stdin"
    return os.path.basename(inputs[0].rstrip("/")) or inputs[0]


def stored_rows(inputs: tuple[str, ...]) -> int | None:
    """The number of rows, where the footers of local Parquet files tell it; else None."""
    if not _can_be_opened_again(inputs):
        return None
    rows = 0
    for source in resolve(inputs):
        if source.path is None or not _is_parquet(source.path):
            return None
        rows += pq.read_metadata(source.path).num_rows
    return rows


def type_name(kind: pa.DataType) -> str:
    """`list<string>`, without Arrow's `item:`; the names of parts are data."""
    return escape(str(kind).replace("element: ", "").replace("item: ", ""))


def _is_parquet(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"
