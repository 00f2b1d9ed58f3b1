"""Rows of Parquet files by row group, in any order: for data that fit neither memory nor disk.

What is known of a file without reading its rows: its size and its footer, which states for each
row group the rows, and for each of its columns the offset, the size and the least and largest
value; in a file of Fletching also the digest of all rows.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import xxhash

from fletching.errors import InputError, UsageError
from fletching.io.blocks import split
from fletching.io.parquet import ParquetFile
from fletching.io.reader import Reader
from fletching.io.sources import Source, resolve
from fletching.report import Report

MAGIC = b"PAR1"
TAIL = 4 + len(MAGIC)  # bytes that end every file: the length of the footer, and MAGIC
OPEN_FILES = 32
FIX = "write Parquet first, e.g. arrowcat INPUT -o rows.parquet"


class RowGroup(NamedTuple):
    """A row group of an input. first_row: of it in its file. rows: that are read of it."""

    source: int
    number: int
    first_row: int
    rows: int


class RowGroupReader(Reader):
    """A Reader whose rows are read by row group; none is read before it is asked for.

    groups: all of them, in the order of the inputs. digest: of the sizes and footers of all
    files. limit: counts the first rows only. Raises InputError or UsageError for an input that
    is no plain Parquet file, and, when a row group is read, for a file that has changed.
    """

    def __init__(
        self,
        report: Report,
        inputs: Sequence[str],
        schema: str | Sequence[str],
        *,
        limit: int | None = None,
        trains: bool = False,
    ) -> None:
        if not inputs or "-" in inputs:
            raise UsageError("stdin is a pipe, and row groups are read at random", FIX)
        self.footers = [_digest_footer(source) for source in resolve(inputs)]
        super().__init__(report, inputs, [*_names(schema)], count=False, trains=trains)
        self._open_files: OrderedDict[int, ParquetFile] = OrderedDict()
        self.groups: list[RowGroup] = []
        for number in range(len(self.sources)):
            file = self._file(number)
            self.ends += file.ends
            first_row = 0
            for group in range(file.file.metadata.num_row_groups):
                rows = file.file.metadata.row_group(group).num_rows
                self.groups.append(
                    RowGroup(source=number, number=group, first_row=first_row, rows=rows)
                )
                first_row += rows
        if limit is not None:
            self.groups = list(_first_rows(self.groups, limit))

    @property
    def digest(self) -> str:
        """xxh3-128 of the sizes and footers of the files, and of what is read of them."""
        rows = sum(group.rows for group in self.groups)
        content = "\n".join([*self.footers, str(rows)]).encode()
        return "footers xxh3-128:" + xxhash.xxh3_128_hexdigest(content)

    def locate(self, group: RowGroup, row: int) -> str:
        """The name of a row of a group, counted from 0."""
        return f"{self.sources[group.source].where}, row {group.first_row + row + 1:,}"

    def read(self, group: RowGroup) -> Iterator[pa.RecordBatch]:
        """The rows of one group, checked, with the columns of the schema that the files have."""
        file = self._file(group.source)
        mapping = self._map(file)
        known = [name for name in mapping.sources.values() if name is not None]
        row = 0
        for batch in file.row_group(group.number, known):
            for part in split(batch.slice(0, group.rows - row)):
                yield mapping.apply(part, self._known_columns, group.first_row + row + 1)
                row += part.num_rows
            if row == group.rows:
                return

    @property
    def _known_columns(self) -> pa.Schema:
        """Those of the schema: the others are not read."""
        names = {field.name for field in self.schema.fields}
        return pa.schema([field for field in self.columns if field.name in names])

    def _file(self, number: int) -> ParquetFile:
        """An open file; the longest unused one of many is closed."""
        if number not in self._open_files:
            source = self.sources[number]
            if _digest_footer(source) != self.footers[number]:
                what = f"{source.where} has changed since the run started"
                raise InputError(what, "start anew, with files that stay as they are")
            opened = self._open(source)
            if not isinstance(opened, ParquetFile):
                what = f"{source.where} holds no `{self.schema.name}` but rows of another program"
                raise InputError(what, FIX)
            self._open_files[number] = opened
            if len(self._open_files) > OPEN_FILES:
                self._open_files.popitem(last=False)
        self._open_files.move_to_end(number)
        return self._open_files[number]


def _names(schema: str | Sequence[str]) -> Sequence[str]:
    return [schema] if isinstance(schema, str) else schema


def _first_rows(groups: Sequence[RowGroup], limit: int) -> Iterator[RowGroup]:
    for group in groups:
        if limit == 0:
            return
        rows = min(group.rows, limit)
        limit -= rows
        yield group._replace(rows=rows)


def _digest_footer(source: Source) -> str:
    """xxh3-128 of the size and the footer of a Parquet file. Raises InputError for any other."""
    with source.open() as file:
        if not file.seekable():
            what = f"{source.where} is a pipe, and row groups are read at random"
            raise InputError(what, FIX)
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{source.where} is no Parquet file, so it has no row groups", FIX)
        return xxhash.xxh3_128_hexdigest(_read_footer(file))


def _read_footer(file: BinaryIO) -> bytes:
    """The size of the file, its footer, and the footer's length: what ends every Parquet file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - TAIL, 0))
    tail = file.read()
    # What a cut file ends with is no length; the damage is named when pyarrow opens it.
    length = int.from_bytes(tail[:4], "little") if tail.endswith(MAGIC) else 0
    file.seek(max(size - TAIL - length, 0))
    return f"{size} ".encode() + file.read()
