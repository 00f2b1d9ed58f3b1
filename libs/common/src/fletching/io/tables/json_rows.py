"""JSON lines and JSON arrays of objects as rows of text cells."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import TextIO, TypeAlias

import pyarrow as pa

from fletching import unique_keys
from fletching.errors import InputError
from fletching.io import json_text
from fletching.io.json_text import FIXES, LONGEST, PIECE, TOO_LONG, LimitError
from fletching.io.tables import delimited
from fletching.io.tables.bad_rows import BadRows
from fletching.io.tables.registry import TABLE_FORMATS, DetectedBy, TableFormat
from fletching.io.tables.table_input import TableInput
from fletching.io.tables.table_options import CellKind
from fletching.io.tables.utf8_stream import UNDECODABLE
from fletching.protocols import Lineage

ROWS = 8192
NO_OBJECT = "that are no JSON object"


class NumberText(str):
    """A number as it is written: 1.10 is not 1.1, and an id of 20 digits is no float."""

    __slots__ = ()


DECODER = json.JSONDecoder(
    parse_int=NumberText,
    parse_float=NumberText,
    parse_constant=NumberText,
    object_pairs_hook=unique_keys.to_dict,
)

Json: TypeAlias = "bool | str | list[Json] | dict[str, Json] | None"  # numbers are NumberText
NumberedObject: TypeAlias = "tuple[str, dict[str, Json]]"  # (position in the file, object)
Cell: TypeAlias = "str | list[str | None] | None"


class JsonTable:
    """The rows of one file of objects: batches of the columns read, null where one lacks it.

    A column that some cell is a list in has the type list of texts in that batch.
    """

    lineage_node = None

    def __init__(self, table: TableInput) -> None:
        self.where = table.where
        self.utf8 = table.utf8()
        self.bad_rows = BadRows(table.options, table.report)
        self.characters = 0  # read so far
        self.names: dict[str, None] = {}  # all keys read so far, in order
        self.kinds = table.columns
        self.objects = self._objects()
        self.first: list[NumberedObject] = []
        if self.kinds is None:
            self.first = list(itertools.islice(self.objects, ROWS))
            self.kinds = dict.fromkeys(self.names, CellKind.TEXT)

    @property
    def columns(self) -> list[str] | None:
        """All keys of the objects; None before the first one, since each object may have others."""
        return list(self.names) or None

    @property
    def ends(self) -> list[Lineage]:
        """The digest of the file."""
        return [self.utf8.end]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The columns read. Raises InputError on what is not an object of texts and numbers."""
        for block in self._blocks():
            columns = list(zip(*block)) if self.kinds else []
            arrays = [_to_array(column) for column in columns]
            yield pa.RecordBatch.from_arrays(arrays, names=list(self.kinds or ()))

    def _blocks(self) -> Iterator[list[list[Cell]]]:
        """The rows by 8,192, fewer where their text is long."""
        block = []
        start = self.characters
        for row in self._rows():
            block.append(row)
            if len(block) == ROWS or self.characters - start > LONGEST:
                yield block
                block = []
                start = self.characters
        if block:
            yield block

    def _rows(self) -> Iterator[list[Cell]]:
        for position, value in itertools.chain(self.first, self.objects):
            row = self._row(position, value)
            if row is not None:
                yield row

    def _row(self, position: str, value: dict[str, Json]) -> list[Cell] | None:
        """The cells of an object; None for one that is dropped."""
        kinds = self.kinds or {}
        try:
            return [_to_cell(value.get(name), kind) for name, kind in kinds.items()]
        except TypeError as error:
            self._reject(f"{position}: {error}", NO_OBJECT)
            return None

    def _objects(self) -> Iterator[NumberedObject]:
        text = io.TextIOWrapper(io.BufferedReader(self.utf8, PIECE), "utf-8", newline="\n")
        first = text.read(1)
        while first.isspace():
            first = text.read(1)
        values = self._array_items(text) if first == "[" else self._lines(text, first)
        for position, value in values:
            if isinstance(value, dict):
                self.names.update(dict.fromkeys(value))
                yield position, value
            else:
                self._reject(f"{position}: not a JSON object: {str(value)[:60]}", NO_OBJECT)

    def _lines(self, text: TextIO, first: str) -> Iterator[tuple[str, Json]]:
        """(position in the file, value) of each line. first: the character read already."""
        line = first + text.readline(LONGEST)
        number = 0
        while line:
            number += 1
            self.characters += len(line)
            position = f"line {number:,}"
            if len(line) > LONGEST:
                raise InputError(f"{self.where}, {position}: {TOO_LONG}", FIXES[TOO_LONG])
            if UNDECODABLE in line:
                self._reject(f"{position}: not {self.utf8.encoding}", "undecodable")
            elif not line.isspace():
                yield from self._value(line, position)
            line = text.readline(LONGEST + 1)

    def _value(self, line: str, position: str) -> Iterator[tuple[str, Json]]:
        """The value of a line; none where the line is dropped."""
        try:
            yield position, json_text.parse(line, DECODER)
        except LimitError as error:
            self._reject(f"{position}: {error}", NO_OBJECT)
        except ValueError as error:
            shown = line[:60].rstrip()
            self._reject(f"{position}: no JSON ({error}): {shown}", NO_OBJECT)

    def _array_items(self, text: TextIO) -> Iterator[tuple[str, Json]]:
        """The items of an array, one after the other: the file need not fit into memory."""
        number = 0
        try:
            for value, length in json_text.array_items(text, DECODER):
                number += 1
                self.characters += length
                yield f"item {number:,}", value
        except ValueError as error:
            is_limit = isinstance(error, LimitError)
            reason = str(error) if is_limit else f"no JSON ({error})"
            fix = FIXES.get(str(error), "correct the array, or write one object a line")
            raise InputError(f"{self.where}, item {number + 1:,}: {reason}", fix) from None

    def _reject(self, what: str, reason: str) -> None:
        self.bad_rows.reject(f"{self.where}, {what}", reason, fix="correct the row")


def _to_array(cells: Sequence[Cell]) -> pa.Array:
    """Texts; lists of texts where some cell is a list."""
    if not any(isinstance(cell, list) for cell in cells):
        return pa.array(cells, pa.string())
    lists = [[cell] if isinstance(cell, str) else cell for cell in cells]
    return pa.array(lists, pa.list_(pa.string()))


def _to_cell(value: Json, kind: CellKind) -> Cell:
    """Raises TypeError for an object where a text is read."""
    cell: Cell
    if isinstance(value, list | dict) and kind is CellKind.JSON:
        cell = _as_json(value)
    elif isinstance(value, list):
        cell = [_as_text(item) for item in value]
    else:
        cell = _as_text(value)
    return cell


def _as_text(value: Json) -> str | None:
    """A value as text; the texts of a list inside a list are joined."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(text for text in map(_as_text, value) if text is not None)
    raise TypeError(f"a cell holds an object: {_as_json(value)[:60]}")


def _as_json(value: Json) -> str:
    """Compact JSON with every number as it was written."""
    if isinstance(value, NumberText):
        return value
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_json, value)) + "]"
    if isinstance(value, dict):
        items = (f"{_as_json(name)}: {_as_json(item)}" for name, item in value.items())
        return "{" + ", ".join(items) + "}"
    return json.dumps(value, ensure_ascii=False)


def is_json(table: TableInput) -> bool:
    """Does the text begin with an object or an array, and nothing says that it is a CSV?"""
    if delimited.is_declared(table):
        return False
    return table.text_head()[:1] in ("{", "[")


TABLE_FORMATS.register(
    "JSON",
    TableFormat(
        extensions=(".jsonl", ".ndjson", ".json"),
        detected_by=DetectedBy.TEXT,
        matches=is_json,
        open=JsonTable,
    ),
)
