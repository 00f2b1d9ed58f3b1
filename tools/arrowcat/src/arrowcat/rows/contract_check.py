"""--check: the rows that break a promise of their schema, with what breaks it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow.compute as pc

from arrowcat.options import Options
from arrowcat.rows.input_rows import FOREIGN, schemas_of
from fletching.column_mapping import shown_value, violations
from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.sources import Source, resolve
from fletching.report import Report
from fletching.schema import Schema

MOST_NAMES = 12  # of the columns of a table that fits no schema


@dataclass(kw_only=True)
class BrokenPromise:
    """A promise that some rows break. rows: their number; shown: the first of them, with values."""

    what: str
    fix: str
    rows: int = 0
    shown: list[tuple[int, str]] = field(default_factory=list)


@dataclass(kw_only=True)
class CheckedInput:
    """One input after its check. failure: why it could not be read on, if so."""

    where: str
    schema: str = ""
    rows: int = 0
    broken: dict[str, BrokenPromise] = field(default_factory=dict)
    failure: InputError | None = None

    @property
    def violations(self) -> int:
        """The number of broken promises over all rows."""
        in_rows = sum(promise.rows for promise in self.broken.values())
        return in_rows + (self.failure is not None)


def check_inputs(options: Options, report: Report, *, most_shown: int) -> list[CheckedInput]:
    """Every input read to its end. most_shown: rows of each broken promise that are listed."""
    checked = []
    for source in resolve(options.inputs):
        result = CheckedInput(where=source.where)
        checked.append(result)
        try:
            reader = _open(source, options, report)
            _check_rows(reader, result, most_shown)
        except InputError as error:
            if _is_missing(source):
                raise
            result.failure = error
    return checked


def _is_missing(source: Source) -> bool:
    """Is there no such file? That is no matter of the contract."""
    is_local = source.path is not None and "://" not in source.path
    return is_local and not os.path.exists(source.path or "")


def _check_rows(reader: Reader, result: CheckedInput, most_shown: int) -> None:
    result.schema = f"{reader.schema.name} {reader.schema.version}"
    for batch in reader:
        for field_, violation in violations(reader.schema, batch):
            what = f"`{field_.name}` {violation.what}"
            promise = result.broken.setdefault(what, BrokenPromise(what=what, fix=violation.fix))
            positions = pc.indices_nonzero(violation.rows).to_pylist()
            promise.rows += len(positions)
            for position in positions[: most_shown - len(promise.shown)]:
                value = shown_value(batch[field_.name][position].as_py())
                promise.shown.append((result.rows + position + 1, value))
        result.rows += batch.num_rows


def _open(source: Source, options: Options, report: Report) -> Reader:
    """The rows of one input, unchecked. Raises InputError where no schema fits."""
    inputs = [source.path or "-"]
    schemas: Sequence[Schema] = schemas_of(options)
    if options.schema:
        return Reader(report, inputs, schemas, limit=options.limit, checked=False)
    reader = Reader(report, inputs, [*schemas, FOREIGN], limit=options.limit, checked=False)
    if reader.schema is FOREIGN:
        shown = reader.columns.names[:MOST_NAMES]
        names = ", ".join(f"`{name}`" for name in shown)
        what = f"{source.where} fits none of the five schemas; it has {names or 'no columns'}"
        raise InputError(what, "--schema examples says which column is missing")
    return reader
