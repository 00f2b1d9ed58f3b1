"""--where: a SQL expression of polars that holds for a row or does not."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow.types import is_string

from arrowcat.rows.input_rows import type_name
from fletching.arrow_types import is_any_list
from fletching.errors import UsageError

# A call of len with a column as its argument, and a literal, which is left alone.
LEN_OR_LITERAL = re.compile(
    r"""'(?:[^']|'')*' | \blen\s*\(\s* (?: "(?P<quoted>[^"]+)" | (?P<plain>\w+) ) \s*\)""",
    re.IGNORECASE | re.VERBOSE,
)
LITERAL = re.compile(r"'(?:[^']|'')*'")
# Windows and queries inside; polars itself refuses an aggregate beside a value of the row.
OTHER_ROWS = re.compile(r"\bover\s*\(|\bselect\b", re.IGNORECASE)
AGGREGATE_MESSAGE = "should participate in the GROUP BY clause"
EXAMPLE = '--where "len(query) > 20 and array_length(neg) > 0"'


class RowCondition:
    """A condition over the columns of one row.

    Raises UsageError for an expression that cannot be read, has no such column, is neither true nor
    false, or looks at more than one row: batches would change its value.
    """

    def __init__(self, text: str, columns: pa.Schema) -> None:
        self.text, self.columns = text, columns
        self.sql = f"SELECT ({_spell_len(text, columns)}) AS it FROM self"
        # Those that it reads, and perhaps others: the rest need not be turned into polars' types.
        self.names = [name for name in columns.names if name and name in text]
        if not self.names:
            raise self._refusal("it names no column")
        without_literals = LITERAL.sub("", text)
        if OTHER_ROWS.search(without_literals):
            raise self._refusal("looks at more than one row")
        try:
            outcome = self._evaluate(columns.empty_table())
        except pl.exceptions.PolarsError as error:
            raise self._refusal(_reason(error)) from None
        if outcome.dtype != pl.Boolean:
            reason = f"gives a value of type {outcome.dtype}, which is neither true nor false"
            raise self._refusal(reason)
        if len(outcome):  # one value of no rows: an aggregate
            raise self._refusal("looks at more than one row")

    def rows(self, batch: pa.RecordBatch) -> pa.Int64Array:
        """The positions of the rows for which it holds; it does not where its value is null."""
        try:
            outcome = self._evaluate(pa.Table.from_batches([batch]))
        except pl.exceptions.PolarsError as error:
            raise self._refusal(_reason(error)) from None
        if len(outcome) != batch.num_rows:
            values = f"{len(outcome):,} values"
            raise self._refusal(f"gives {values} for {batch.num_rows:,} rows")
        holds = outcome.fill_null(False).to_numpy()
        return pa.array(np.flatnonzero(holds), pa.int64())

    def _evaluate(self, table: pa.Table) -> pl.Series:
        """The value for each row. Raises PolarsError."""
        frame = pl.from_arrow(table.select(self.names))
        assert isinstance(frame, pl.DataFrame)
        return frame.lazy().sql(self.sql).collect().to_series()

    def _refusal(self, reason: str) -> UsageError:
        described = []
        for field in self.columns:
            kind = type_name(field.type)
            described.append(f"`{field.name}` ({kind})")
        listed = ", ".join(described)
        fix = f"the columns are {listed}; {EXAMPLE}"
        return UsageError(f"--where {self.text}: {reason}", fix)


def _spell_len(text: str, columns: pa.Schema) -> str:
    """`len(query)`, which polars' SQL does not know, as the function for the column's type."""

    def spell(match: re.Match[str]) -> str:
        """The call in polars' words; a literal as it is."""
        name = match["quoted"] or match["plain"]
        if name is None or name not in columns.names:
            return match[0]
        kind = columns.field(name).type
        if is_any_list(kind):
            return f'array_length("{name}")'
        return f'length("{name}")' if is_string(kind) else match[0]

    return LEN_OR_LITERAL.sub(spell, text)


def _reason(error: Exception) -> str:
    """The first line of polars' message."""
    line = str(error).splitlines()[0].split("; valid columns")[0]
    if AGGREGATE_MESSAGE in line:
        return "looks at more than one row"
    return line
