"""Which rows are shown or written: --where, then --sample, then --head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from arrowcat.options import Options
from fletching.io import Reader
from fletching.io.reader import cut
from fletching.report import Report
from fletching.table.ragged_array import Integers
from fletching.text_keys import mix

if TYPE_CHECKING:
    from arrowcat.rows.row_condition import RowCondition


class NumberedRows(NamedTuple):
    """Rows, each with its number in the input, from 1: int64 (rows,)."""

    numbers: Integers
    batch: pa.RecordBatch

    def take(self, positions: pa.Int64Array | Integers) -> NumberedRows:
        """The rows at these positions."""
        indices = pa.array(positions, pa.int64())
        return NumberedRows(self.numbers[indices.to_numpy()], self.batch.take(indices))


def reading_limit(options: Options) -> int | None:
    """How many rows must be read at most: with --head alone, no more than it shows."""
    limits = [options.limit]
    if options.where is None and options.sample is None:
        limits.append(options.head)
    stated = [limit for limit in limits if limit is not None]
    return min(stated, default=None)


def select_rows(reader: Reader, options: Options, report: Report) -> Iterator[NumberedRows]:
    """The rows that the options select, in order; the others count as dropped, by option.

    Raises UsageError for a --where that cannot be applied to these columns.
    """
    condition: RowCondition | None = None
    if options.where is not None:
        from arrowcat.rows.row_condition import RowCondition

        condition = RowCondition(options.where, reader.columns)
    rows = _matching(_numbered(reader), condition, report)
    if options.sample is not None:
        sample = RowSample(options.sample, options.seed, reader.columns)
        rows = _sampled(rows, sample, report)
    return rows if options.head is None else _first(rows, options.head, report)


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[NumberedRows]:
    start = 1
    for batch in batches:
        yield NumberedRows(np.arange(start, start + batch.num_rows), batch)
        start += batch.num_rows


def _matching(
    rows: Iterable[NumberedRows], condition: RowCondition | None, report: Report
) -> Iterator[NumberedRows]:
    for part in rows:
        if condition is None:
            yield part
            continue
        matching = part.take(condition.rows(part.batch))
        others = part.batch.num_rows - matching.batch.num_rows
        report.drop("not matching --where", others)
        if matching.batch.num_rows:
            yield matching


def _first(rows: Iterable[NumberedRows], size: int, report: Report) -> Iterator[NumberedRows]:
    missing = size
    for part in rows:
        shown = NumberedRows(part.numbers[:missing], part.batch.slice(0, missing))
        missing -= shown.batch.num_rows
        hidden = part.batch.num_rows - shown.batch.num_rows
        report.drop(f"after the first {size:,}", hidden)
        yield shown
        if not missing:
            return


class RowSample:
    """`size` rows drawn at random without replacement, in one pass.

    A row's key is a hash of (seed, its number), and the smallest keys are drawn: neither batches
    nor threads change the draw. Holds the rows drawn and one batch.
    """

    def __init__(self, size: int, seed: int, columns: pa.Schema) -> None:
        self.size, self.seed = size, seed
        self.numbers: Integers = np.zeros(0, np.int64)
        self.table = columns.empty_table()

    def add(self, part: NumberedRows) -> None:
        """Draw among these rows too."""
        numbers = np.concatenate([self.numbers, part.numbers])
        batch = pa.Table.from_batches([part.batch], self.table.schema)
        table = pa.concat_tables([self.table, batch])
        if len(numbers) > self.size:
            keys = mix(self.seed, numbers)
            smallest = np.sort(np.argsort(keys, kind="stable")[: self.size])
            numbers, table = numbers[smallest], table.take(pa.array(smallest))
        self.numbers, self.table = numbers, table

    def parts(self) -> Iterator[NumberedRows]:
        """The rows drawn, in the order of the input."""
        start = 0
        for batch in cut(self.table):
            yield NumberedRows(self.numbers[start : start + batch.num_rows], batch)
            start += batch.num_rows


def _sampled(
    rows: Iterable[NumberedRows], sample: RowSample, report: Report
) -> Iterator[NumberedRows]:
    seen = 0
    for part in rows:
        seen += part.batch.num_rows
        sample.add(part)
    report.drop("not in the sample", seen - len(sample.numbers))
    yield from sample.parts()
