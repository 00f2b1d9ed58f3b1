"""Rows of `examples` into files of other programs; what a format cannot carry is counted."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa

from fletching.column_mapping import content_ids
from fletching.digest import RowDigest
from fletching.io.formats import STDOUT_JSONL, output_format
from fletching.io.row_formats.row_format import Batches, WriteAccount
from fletching.schema import load
from fletching.table import atomic

Row = dict[str, Any]
BLOCK = 8192  # rows of a batch


def read_rows(
    batches: Batches, account: WriteAccount, carried: Collection[str] = ()
) -> Iterator[Row]:
    """Each row as a dictionary, counted. carried: the columns that the format has a name for.

    A value of another column is counted as not carried, except an id that readers compute again.
    """
    for batch in batches:
        account.rows += batch.num_rows
        for name in batch.schema.names:
            if name not in carried:
                count_lost(account, f"values of `{name}`", _values_lost(batch, name))
        yield from batch.to_pylist()


def _values_lost(batch: pa.RecordBatch, name: str) -> int:
    column = batch.column(name)
    if name != "id":
        return len(column) - int(column.null_count)
    computed = content_ids(load("examples"), batch)
    return sum(theirs != ours for theirs, ours in zip(column.to_pylist(), computed))


def count_lost(account: WriteAccount, what: str, amount: int = 1) -> None:
    """Count what the format has no way to say."""
    if amount:
        account.not_carried[what] += amount


def columns_with_values(batches: Batches, names: Collection[str]) -> list[str]:
    """Those of these columns that hold a value in some row, in the order of `names`."""
    filled: set[str] = set()
    for batch in batches:
        present = set(batch.schema.names) & set(names)
        filled |= {name for name in present if batch[name].null_count < batch.num_rows}
    return [name for name in names if name in filled]


def write_renamed(batches: Batches, path: str, names: Mapping[str, str]) -> WriteAccount:
    """One record a row under other names.

    names: theirs for each of our columns that they have, and for texts that pass through.
    """
    account = WriteAccount()
    filled = columns_with_values(batches, names)
    examples = load("examples")
    types = {field.name: field.arrow or pa.string() for field in examples.fields}
    columns = pa.schema([(names[name], types.get(name, pa.string())) for name in filled])
    rows = read_rows(batches, account, names)
    records = ({names[name]: row[name] for name in filled} for row in rows)
    account.records = write_records(path, columns, records)
    return account


def each_positive(rows: Iterable[Row], account: WriteAccount) -> Iterator[tuple[Row, int]]:
    """(row, number of a positive): one record for each positive, for formats that take one."""
    for row in rows:
        if len(row["pos"]) > 1:
            count_lost(account, "rows of several positives, which became a record for each")
        for number in range(len(row["pos"])):
            yield row, number


def write_records(path: str, columns: pa.Schema, records: Iterable[Row]) -> int:
    """Write the records in the file format of the extension; how many they were.

    path: `-.jsonl` is stdout. Raises UsageError for a path without a known extension.
    """
    digest = RowDigest()
    with _open(path) as file:
        is_stdout = path == STDOUT_JSONL
        sink = output_format(path).create(file, "" if is_stdout else path, columns)
        remaining = iter(records)
        while block := list(itertools.islice(remaining, BLOCK)):
            batch = pa.RecordBatch.from_pylist(block, columns)
            digest.update(batch)
            sink.write(batch)
        end = {"status": "complete", "rows": digest.rows, "digest": digest.hexdigest()}
        sink.close(end)
    return digest.rows


@contextlib.contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    if path != STDOUT_JSONL:
        with atomic.open_new(path) as file:
            yield file
        return
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
