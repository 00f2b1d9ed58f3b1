"""JSON lines and JSON arrays of objects; a table is refused with the tool that reads tables."""

from __future__ import annotations

import codecs
import functools
import io
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow.types import is_list, is_string

from fletching.errors import InputError
from fletching.io.formats import INPUT_FORMATS, InputFormat
from fletching.io.jsonl_types import (
    MISFITS,
    ColumnTypes,
    JsonRow,
    JsonValue,
    as_texts,
    exact_array,
)
from fletching.io.streams import PeekableStream, RawStream, Readable
from fletching.lineage import Node
from fletching.schema import Schema

BLOCK = 8192  # rows of a batch
COPY_BYTES = 64 << 20  # of a pipe that are kept in memory; more lie in a temporary file

NumberedRow = tuple[int, JsonRow]  # (number of the line or of the item of an array, object)


class JsonlFile:
    """Objects as batches. Known columns have their type; of others, all rows decide it.

    A file of more than one block is read twice: for its columns and types, then for its rows. A
    pipe is copied for that, to the temporary folder.
    """

    def __init__(self, stream: PeekableStream, where: str, schema: Schema) -> None:
        self.where, self.known = where, schema
        self.limit: int | None = None
        self.source = _Replayable(stream)
        self.objects = self._objects(self.source.first_pass())
        self.first = list(itertools.islice(self.objects, BLOCK))
        self.is_whole = len(self.first) < BLOCK

    @property
    def lineage_node(self) -> Node:
        """None is known."""
        return {}

    @property
    def ends(self) -> list[Node]:
        """Nothing is known."""
        return [{}]

    def retype(self, schema: Schema) -> None:
        """Read the columns as those of another schema."""
        self.known = schema
        self.__dict__.pop("types", None)
        self.__dict__.pop("schema", None)

    def limit_rows(self, limit: int) -> None:
        """Read so many rows only. Before `schema` is first asked for."""
        self.limit = limit
        self.first = self.first[:limit]
        self.is_whole = self.is_whole or limit <= len(self.first)

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The columns of all rows. Raises InputError for a line that is no object."""
        return self.types.schema()

    @functools.cached_property
    def types(self) -> ColumnTypes:
        """The columns and types of all rows, which are read for it."""
        types = ColumnTypes(self.known)
        types.add(row for _, row in self.first)
        if self.is_whole:
            return types
        rows = self._objects(self.source.pass_again())
        remaining = itertools.islice(rows, len(self.first), self.limit)
        while block := list(itertools.islice(remaining, BLOCK)):
            types.add(row for _, row in block)
        return types

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with its schema. Raises InputError for a line that is no such row."""
        schema = self.schema  # before the rows are read again
        rows = iter(self.first) if self.is_whole else self._objects(self.source.pass_again())
        remaining = itertools.islice(rows, self.limit)
        while block := list(itertools.islice(remaining, BLOCK)):
            yield schema, self._batch(block, schema)

    # --- parsing ---------------------------------------------------------------------------------

    def _objects(self, file: io.BufferedReader) -> Iterator[NumberedRow]:
        if file.peek(3)[:3] == codecs.BOM_UTF8:
            file.read(3)
        if file.peek(1)[:1] == b"[":
            for number, item in enumerate(self._parse(file.read(), 1), 1):
                yield number, self._checked_object(item, number)
            return
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, self._checked_object(self._parse(line, number), number)

    def _parse(self, text: bytes, number: int) -> JsonValue:
        try:
            return json.loads(text.decode())
        except UnicodeDecodeError as error:
            what = f"{self._line(number)}: not UTF-8 (byte 0x{text[error.start]:02x})"
            raise InputError(what, "convert the file to UTF-8") from None
        except (ValueError, RecursionError) as error:
            shown = text[:60].decode(errors="replace").rstrip()
            reason = str(error)
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg}, column {error.pos + 1}"
            if number > 1 or text[:1] in b"{[":
                fix = "each line must be one JSON object"
            else:
                fix = "name a table .csv or .tsv, or make rows of it with csv2pairs"
            raise InputError(f"{self._line(number)}: no JSON ({reason}): {shown}", fix) from None

    def _checked_object(self, value: JsonValue, number: int) -> JsonRow:
        if isinstance(value, dict):
            return value
        what = f"{self._line(number)}: not an object: {json.dumps(value)[:60]}"
        raise InputError(what, "each line must be one JSON object")

    def _line(self, number: int) -> str:
        return f"{self.where}, line {number:,}"

    # --- batches ---------------------------------------------------------------------------------

    def _batch(self, block: list[NumberedRow], schema: pa.Schema) -> pa.RecordBatch:
        arrays = []
        for field in schema:
            values = [(number, row.get(field.name)) for number, row in block]
            arrays.append(self._column(field, values))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _column(self, field: pa.Field, numbered: list[tuple[int, JsonValue]]) -> pa.Array:
        values = [value for _, value in numbered]
        leaf = field.type.value_type if is_list(field.type) else field.type
        if is_string(leaf) and self._holds_ids(field.name):
            values = as_texts(values)
        if is_list(field.type):  # pyarrow would take a string for a list of characters
            values = [[value] if isinstance(value, str) else value for value in values]
        try:
            return exact_array(values, field.type)
        except MISFITS:
            numbers = [number for number, _ in numbered]
            self._raise_first_misfit(field, list(zip(numbers, values)))
            raise

    def _holds_ids(self, name: str) -> bool:
        return any(field.is_id and name in field.names for field in self.known.fields)

    def _raise_first_misfit(self, field: pa.Field, values: list[tuple[int, JsonValue]]) -> None:
        for number, value in values:
            try:
                exact_array([value], field.type)
            except MISFITS:
                shown = json.dumps(value)[:60]
                what = f"{self._line(number)}: `{field.name}` is no {field.type} ({shown})"
                raise InputError(what, "correct the value") from None


class _Replayable:
    """A stream that can be read again from its start: a file, or a copy of what is none.

    Only the first 8,192 rows of a short input are ever read, so nothing is copied ahead of time.
    """

    def __init__(self, stream: PeekableStream) -> None:
        self.stream = stream
        raw = stream.raw
        is_file = isinstance(raw, io.IOBase) and raw.seekable()
        self.file = cast(BinaryIO, raw) if is_file and raw is not sys.stdin.buffer else None
        self.copy = tempfile.SpooledTemporaryFile(COPY_BYTES) if self.file is None else None

    def first_pass(self) -> io.BufferedReader:
        """The stream from its start, copied as it is read where that is needed."""
        source = self.stream if self.copy is None else _Copying(self.stream, self.copy)
        return _buffered(PeekableStream(source))

    def pass_again(self) -> io.BufferedReader:
        """The same bytes from the start. Ends the pass before it."""
        if self.file is not None:
            self.file.seek(0)
            return _buffered(PeekableStream(_UnclosedFile(self.file)))
        assert self.copy is not None
        self.copy.seek(0, io.SEEK_END)
        while data := self.stream.read(1 << 20):  # what the first pass left
            self.copy.write(data)
        self.copy.seek(0)
        return _buffered(PeekableStream(_UnclosedFile(self.copy)))


class _Copying:
    """A stream whose bytes are copied as they are read."""

    def __init__(self, stream: Readable, copy: tempfile.SpooledTemporaryFile[bytes]) -> None:
        self.stream, self.copy = stream, copy

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        data = self.stream.read(size)
        self.copy.write(data)
        return data

    def close(self) -> None:
        """Close the stream; the copy stays open."""
        self.stream.close()


class _UnclosedFile:
    """A file that is read to its end more than once."""

    def __init__(self, file: Readable) -> None:
        self.read = file.read

    def close(self) -> None:
        """Leave the file open for the next pass."""


def _buffered(stream: PeekableStream) -> io.BufferedReader:
    return io.BufferedReader(RawStream(stream), 1 << 20)


def _open(stream: PeekableStream, where: str, schema: Schema) -> JsonlFile:
    return JsonlFile(stream, where, schema)


INPUT_FORMATS.register(
    "jsonl",
    InputFormat(
        extensions=(".jsonl", ".ndjson", ".json"), open=_open, empty_extensions=(".jsonl",)
    ),
)
