"""JSON lines and JSON arrays of objects; a table is refused with the tool that reads tables."""

from __future__ import annotations

import codecs
import functools
import io
import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
from pyarrow.types import is_list, is_string

from fletching.errors import InputError
from fletching.io import json_text
from fletching.io.formats import INPUT_FORMATS, InputFormat
from fletching.io.json_text import (
    FIXES,
    LONGEST,
    TOO_LONG,
    JsonValue,
    LimitError,
    array_items,
)
from fletching.io.jsonl_types import (
    MISFITS,
    ColumnTypes,
    JsonRow,
    as_texts,
    exact_array,
)
from fletching.io.replayable import Replayable
from fletching.io.streams import PeekableStream
from fletching.lineage import Node
from fletching.schema import Schema

BLOCK = 8192  # rows of a batch

BLOCK_BYTES = 64 << 20  # of the text of these rows, where they are long
BLOCK_CELLS = 8192 * 512  # of these rows, where they have many columns


class NumberedRow(NamedTuple):
    """An object. number: of its line, or of the item of an array. size: of its text."""

    number: int
    row: JsonRow
    size: int


class JsonlFile:
    """Objects as batches. Known columns have their type; of others, all rows decide it.

    A file of more than one block is read twice: for its columns and types, then for its rows. A
    pipe is copied for that, to the temporary folder.
    """

    def __init__(self, stream: PeekableStream, where: str, schema: Schema) -> None:
        self.where, self.known = where, schema
        self.limit: int | None = None
        self.unit = "line"
        self.source = Replayable(stream)
        objects = self._objects(self.source.first_pass())
        self.first, self.is_whole = _take_block(objects)

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
        self.__dict__.pop("id_names", None)
        self.__dict__.pop("known_names", None)

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
        rows = iter(self.first)
        if not self.is_whole:
            rows = self._objects(self.source.pass_again())
        for block in _blocks(itertools.islice(rows, self.limit)):
            try:
                types.add(each.row for each in block)
            except LimitError as error:
                raise InputError(f"{self.where}: {error}", FIXES[str(error)]) from None
        return types

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with its schema. Raises InputError for a line that is no such row."""
        schema = self.schema  # before the rows are read again
        rows = iter(self.first) if self.is_whole else self._objects(self.source.pass_again())
        most = max(BLOCK_CELLS // max(len(schema), 1), 1)
        for block in _blocks(itertools.islice(rows, self.limit), most=min(most, BLOCK)):
            yield schema, self._batch(block, schema)

    # --- parsing ---------------------------------------------------------------------------------

    def _objects(self, file: io.BufferedReader) -> Iterator[NumberedRow]:
        if file.peek(3)[:3] == codecs.BOM_UTF8:
            file.read(3)
        if file.peek(1)[:1] == b"[":
            self.unit = "item"
            yield from self._items(file)
            return
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            if not line.isspace():
                value = self._parse(line, number)
                yield NumberedRow(number, self._checked_object(value, number), len(line))

    def _items(self, file: io.BufferedReader) -> Iterator[NumberedRow]:
        """The objects of an array."""
        file.read(1)
        text = io.TextIOWrapper(file, "utf-8", newline="")
        number = 0
        try:
            for value, size in array_items(text):
                number += 1
                yield NumberedRow(number, self._checked_object(value, number), size)
        except ValueError as error:
            raise self._not_json(error, number + 1) from None

    def _parse(self, line: bytes, number: int) -> JsonValue:
        try:
            if len(line) > LONGEST:
                raise LimitError(TOO_LONG)
            return json_text.parse(line.decode())
        except ValueError as error:
            raise self._not_json(error, number, line) from None

    def _not_json(self, error: ValueError, number: int, line: bytes = b"") -> InputError:
        """The error for a line, or for an item of an array."""
        position = self._position(number)
        if isinstance(error, LimitError):
            return InputError(f"{position}: {error}", FIXES.get(str(error), "correct the object"))
        if isinstance(error, UnicodeDecodeError):
            what = f"{position}: not UTF-8 (byte 0x{error.object[error.start]:02x})"
            return InputError(what, "convert the file to UTF-8")
        if self.unit == "item":
            what = f"{position}: no JSON ({getattr(error, 'msg', error)})"
            return InputError(what, "correct the array, or write one object a line")
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg}, column {error.pos + 1}"
        shown = line[:60].decode(errors="replace").rstrip()
        if number > 1 or line[:1] == b"{":
            fix = "each line must be one JSON object"
        else:
            fix = "name a table .csv or .tsv, or make rows of it with csv2pairs"
        return InputError(f"{position}: no JSON ({reason}): {shown}", fix)

    def _checked_object(self, value: JsonValue, number: int) -> JsonRow:
        if isinstance(value, dict):
            return value
        what = f"{self._position(number)}: not an object: {json.dumps(value)[:60]}"
        raise InputError(what, f"each {self.unit} must be one JSON object")

    def _position(self, number: int) -> str:
        return f"{self.where}, {self.unit} {number:,}"

    # --- batches ---------------------------------------------------------------------------------

    def _batch(self, block: list[NumberedRow], schema: pa.Schema) -> pa.RecordBatch:
        arrays = [self._column(field, block) for field in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _column(self, field: pa.Field, block: list[NumberedRow]) -> pa.Array:
        name = field.name
        values = [each.row.get(name) for each in block]
        leaf = field.type.value_type if is_list(field.type) else field.type
        if is_string(leaf) and name in self.id_names:
            values = as_texts(values)
        if is_list(field.type):  # pyarrow would take a string for a list of characters
            values = [[value] if isinstance(value, str) else value for value in values]
        try:
            return exact_array(values, field.type)
        except MISFITS:
            self._raise_first_misfit(field, block, values)
            raise

    @functools.cached_property
    def id_names(self) -> frozenset[str]:
        """The names of columns with ids."""
        return frozenset(name for field in self.known.fields if field.is_id for name in field.names)

    def _raise_first_misfit(
        self, field: pa.Field, block: list[NumberedRow], values: list[JsonValue]
    ) -> None:
        for each, value in zip(block, values):
            try:
                exact_array([value], field.type)
            except MISFITS:
                shown = json.dumps(value)[:60]
                position = self._position(each.number)
                if field.name in self.known_names:
                    what = f"{position}: `{field.name}` is no {field.type} ({shown})"
                    raise InputError(what, "correct the value") from None
                what = f"{position}: `{field.name}` is no {field.type}, unlike other rows ({shown})"
                raise InputError(what, "give the column one type in all rows") from None

    @functools.cached_property
    def known_names(self) -> frozenset[str]:
        """The names of columns whose type the schema gives."""
        return frozenset(name for field in self.known.fields for name in field.names)


def _blocks(rows: Iterator[NumberedRow], most: int = BLOCK) -> Iterator[list[NumberedRow]]:
    """The rows in blocks of at most so many, of bounded size."""
    is_last = False
    while not is_last:
        block, is_last = _take_block(rows, most)
        if block:
            yield block


def _take_block(rows: Iterator[NumberedRow], most: int = BLOCK) -> tuple[list[NumberedRow], bool]:
    """(the next rows, are they the last ones?)."""
    block = []
    size = 0
    for each in rows:
        block.append(each)
        size += each.size
        if len(block) == most or size >= BLOCK_BYTES:
            return block, False
    return block, True


def _open(stream: PeekableStream, where: str, schema: Schema) -> JsonlFile:
    return JsonlFile(stream, where, schema)


INPUT_FORMATS.register(
    "jsonl",
    InputFormat(
        extensions=(".jsonl", ".ndjson", ".json"), open=_open, empty_extensions=(".jsonl",)
    ),
)
