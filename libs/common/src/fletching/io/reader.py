"""The inputs of a tool as one sequence of checked batches in canonical types."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow.types import (
    is_null,
)

from fletching import lineage
from fletching import schema as contract
from fletching.column_mapping import ColumnMapping
from fletching.errors import InputError
from fletching.io.arrow import REMAKE, UPSTREAM
from fletching.io.formats import EMPTY, INPUT_FORMATS, TEXT, may_be_empty, text_format
from fletching.io.lookalikes import refuse, unread_lookalikes
from fletching.io.row_formats.formatted_rows import FormattedRows, in_examples
from fletching.io.row_formats.row_format import RowFormat, detect_row_format
from fletching.io.sources import Source, resolve, sniff
from fletching.io.streams import PeekableStream, spool
from fletching.lineage import Node
from fletching.protocols import Retypable, RowSource
from fletching.report import Report
from fletching.schema import Schema

BATCH_ROWS = 8192
BATCH_BYTES = 64 << 20


class Reader:
    """Rows of one schema from files, folders, globs, URLs or stdin.

    Iterating gives record batches of at most 8,192 rows and 64 MB with the columns of `columns`;
    every promise of the schema holds for them. Rows count as `rows_in` of the report unless
    `count=False` (side inputs). Several inputs are read in order; a column that one of them lacks
    is null there.

    schema: names of schemas, or schemas, where a tool reads more aliases. Of several, the stamp of
    the first input decides, else the first whose required columns it has; `schema.name` tells
    which.
    checked: False for tools that look at rows: those that break a promise are given too.
    limit: read only the first rows. lineage_nodes, ends: of the inputs, what is known at the start
    and, after reading, at the end. lookalikes: columns that look like known ones and are not read.
    trains: refuse a lookalike that may say which texts are positives.

    Rows in the layout of another program (`fletching.io.row_formats`) are converted.

    Raises InputError where an input is damaged, cut, of another schema or breaks a promise.
    """

    def __init__(
        self,
        report: Report,
        inputs: Sequence[str],
        schema: str | Sequence[str | Schema],
        *,
        limit: int | None = None,
        count: bool = True,
        checked: bool = True,
        trains: bool = False,
    ) -> None:
        self.report, self.limit, self.count, self.checked = report, limit, count, checked
        self.sources = resolve(inputs)
        self.ends: list[Node] = []
        self.rows = 0
        first, *others = self.sources
        self.opened, self.schema = open_as(first, [schema] if isinstance(schema, str) else schema)
        self.row_formats: list[RowFormat] = []  # of the inputs, where they were converted
        self._note_format(self.opened)
        mappings = [self._map(self.opened)]
        # The columns of all inputs are read first: the last file alone may have one of them.
        self.lineage_nodes = [self.opened.lineage_node]
        for source in others:
            other = self._open(source)
            self._note_format(other)
            mappings.append(self._map(other))
            self.lineage_nodes.append(other.lineage_node)
        self.columns = self._union([mapping.columns for mapping in mappings])
        self.renamed: dict[str, str] = {}  # our column: the input's
        for mapping in mappings:
            self.renamed |= mapping.renamed
        for ours, theirs in self.renamed.items():
            report.note(f"reading column `{theirs}` as `{ours}`")
        self.lookalikes = unread_lookalikes(self.schema, self.columns)
        if trains:
            refuse(self.sources[0].where, self.lookalikes)
        for lookalike in self.lookalikes:
            report.note(f"column `{lookalike.name}` is not read, though it looks like one that is")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Batches whose boundaries depend on the rows alone, not on files, chunks or timing."""
        for batch in rechunk(self._rows(), self.columns):
            if self.count:
                self.report.rows_in += batch.num_rows
            yield batch

    def read_all(self) -> pa.Table:
        """All rows in memory."""
        return pa.Table.from_batches(self, schema=self.columns)

    def _open(self, source: Source) -> RowSource:
        opened = open_rows(source, self.schema)
        return in_examples(opened) if self.schema.name == "examples" else opened

    def _note_format(self, opened: RowSource) -> None:
        """Say once what the rows of a row format were taken for."""
        if not isinstance(opened, FormattedRows) or opened.row_format in self.row_formats:
            return
        row_format = opened.row_format
        self.row_formats.append(row_format)
        self.report.note(
            f"{opened.where} holds rows of {row_format.name} ({row_format.summary}): "
            f"reading {row_format.becomes}"
        )

    def _rows(self) -> Iterator[pa.RecordBatch]:
        for number, source in enumerate(self.sources):
            opened = self.opened if number == 0 else self._open(source)
            for batch in self._mapped_batches(opened):
                if self.limit is not None:
                    batch = batch.slice(0, self.limit - self.rows)
                self.rows += batch.num_rows
                yield batch
                if self.rows == self.limit:
                    return
            self.ends += opened.ends

    def _mapped_batches(self, opened: RowSource) -> Iterator[pa.RecordBatch]:
        """Batches with our columns, small enough for 32-bit string offsets."""
        mapping, mapped_schema = self._map(opened), opened.schema
        row = 1
        for schema, batch in opened.batches():
            if schema is not mapped_schema:  # the next of several concatenated streams may differ
                mapping, mapped_schema = self._map(opened), schema
                self._check_no_new_column(mapping, rows=row - 1)
            for part in split(batch):
                if self.checked:
                    yield mapping.apply(part, self.columns, row)
                else:
                    yield mapping.convert(part, self.columns)
                row += part.num_rows

    def _check_no_new_column(self, mapping: ColumnMapping, *, rows: int) -> None:
        new = [name for name in mapping.columns.names if name not in self.columns.names]
        if new:
            what = f"{mapping.where}: column `{new[0]}` first appears after {rows:,} rows"
            raise InputError(what, "concatenate streams with the same columns, or name the files")

    def _map(self, opened: RowSource) -> ColumnMapping:
        self._check_version(opened)
        return ColumnMapping(self.schema, opened.schema, opened.where)

    def _check_version(self, opened: RowSource) -> None:
        stamp = lineage.read(opened.schema.metadata)
        name = stamp.get("schema", self.schema.name)
        version = str(stamp.get("version", self.schema.version))
        tool = self.report.tool
        if name != self.schema.name:
            what = f"{opened.where} holds {name}, but {tool} reads {self.schema.name} here"
            raise InputError(what, f"give it a file of {self.schema.name}")
        if version.split(".")[0] != self.schema.major:
            reads = f"this {tool} reads {self.schema.version}"
            what = f"{opened.where} is {name} {version}, but {reads}"
            raise InputError(what, "use tools of the same major version")

    def _union(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        """The columns of all inputs: known ones in our order, then unknown ones in theirs."""
        columns: dict[str, pa.Field] = {}
        for source, schema in zip(self.sources, schemas):
            for field in schema:
                earlier = columns.setdefault(field.name, field)
                if is_null(earlier.type):
                    columns[field.name] = field
                elif not is_null(field.type) and field.type != earlier.type:
                    types = f"is {field.type}, but {earlier.type} in an input before"
                    what = f"{source.where}: column `{field.name}` {types}"
                    raise InputError(what, "give the column one type in all inputs")
        known = [columns.pop(field.name) for field in self.schema.fields if field.name in columns]
        return pa.schema([*known, *columns.values()])


# --- opening -------------------------------------------------------------------------------------


def open_rows(source: Source, schema: Schema) -> RowSource:
    """The rows of a source, by its content.

    schema: gives known columns of a text format their type; for any table, one without fields will
    do.
    Raises InputError where the source cannot be opened or is damaged.
    """
    kind, stream = sniff(source.open(), source.where)
    return open_sniffed(source, schema, kind=kind, stream=stream)


def open_sniffed(source: Source, schema: Schema, *, kind: str, stream: PeekableStream) -> RowSource:
    """`open_rows` for a source that was opened by `sniff`, which gave `kind` and `stream`."""
    if kind == EMPTY and not may_be_empty(source.path):
        fix = UPSTREAM if source.path is None else REMAKE
        raise InputError(f"{source.where} is empty (0 bytes)", fix)
    file_format = text_format(source.path) if kind in (TEXT, EMPTY) else INPUT_FORMATS[kind]
    file = _seekable(source, stream) if file_format.needs_seek else stream
    return file_format.open(file, source.where, schema)


def _seekable(source: Source, stream: PeekableStream) -> pa.NativeFile | BinaryIO:
    """A plain file, mapped where it is local; of a pipe or a compressed file a seekable copy."""
    raw = stream.raw
    is_plain = isinstance(raw, io.IOBase) and raw.seekable()
    if source.path is None or not is_plain:
        return spool(stream)
    if os.path.exists(source.path):
        return pa.memory_map(source.path)
    file = cast(BinaryIO, raw)
    file.seek(0)
    return file


def open_as(source: Source, names: Sequence[str | Schema]) -> tuple[RowSource, Schema]:
    """The source, and the one of these schemas that it holds."""
    schemas = [contract.load(name) if isinstance(name, str) else name for name in names]
    opened = open_rows(source, schemas[0])
    schema = _schema_of(opened, schemas)
    if schema is not schemas[0] and isinstance(opened, Retypable):
        opened.retype(schema)
    return in_examples(opened) if schema.name == "examples" else opened, schema


def _schema_of(opened: RowSource, schemas: Sequence[Schema]) -> Schema:
    """By the stamp, else the first schema whose required columns are there, else the first."""
    stamped = lineage.read(opened.schema.metadata).get("schema")
    for schema in schemas:
        if schema.name == stamped:
            return schema
    columns = set(opened.schema.names)
    for schema in schemas:
        if all(columns.intersection(field.names) for field in schema.fields if field.required):
            return schema
        if schema.name == "examples" and detect_row_format(opened.schema):
            return schema
    return schemas[0]


# --- batches -------------------------------------------------------------------------------------


def rechunk(batches: Iterable[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of 8,192 (fewer where that is over 64 MB), the last one smaller."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= BATCH_ROWS:
            table = pa.Table.from_batches(waiting, columns)
            whole = rows - rows % BATCH_ROWS
            yield from cut(table.slice(0, whole))
            waiting, rows = table.slice(whole).to_batches(), rows - whole
    if rows:
        yield from cut(pa.Table.from_batches(waiting, columns))


def cut(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Contiguous batches of 8,192 rows."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        for whole in table.slice(start, BATCH_ROWS).combine_chunks().to_batches():
            yield from split(whole)


def split(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of at most 8,192 rows and 64 MB (or one row), by content alone."""
    if batch.num_rows > BATCH_ROWS:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from split(batch.slice(start, BATCH_ROWS))
    elif batch.nbytes > BATCH_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from split(batch.slice(0, half))
        yield from split(batch.slice(half))
    else:
        yield batch
