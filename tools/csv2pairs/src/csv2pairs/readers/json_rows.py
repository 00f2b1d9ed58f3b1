"""JSON lines and JSON arrays of objects as cells of text; lists are joined by one blank."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator
from typing import TextIO, TypeAlias

import pyarrow as pa

from csv2pairs.readers import delimited
from csv2pairs.readers.bad_rows import BadRows
from csv2pairs.readers.registry import TABLE_FORMATS, DetectedBy, TableFormat
from csv2pairs.readers.table_input import TableInput
from csv2pairs.readers.utf8_stream import UNDECODABLE
from fletching.errors import InputError
from fletching.protocols import Lineage

ROWS = 8192
LONGEST = 64 << 20  # characters of one object in an array
PIECE = 1 << 20  # characters read at once
SEPARATORS = re.compile(r"[\s,]*")
# Numbers stay as they are written: 1.10 is not 1.1, and an id of 20 digits is no float.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
NO_OBJECT = "that are no JSON object"

Json: TypeAlias = "bool | str | list[Json] | dict[str, Json] | None"  # numbers are texts


class JsonTable:
    """The rows of one file of objects: batches of the columns `wanted`, null where one lacks it."""

    lineage_node = None

    def __init__(self, table: TableInput) -> None:
        self.where = table.where
        self.wanted = table.wanted
        self.list_cells = table.list_cells
        self.utf8 = table.utf8()
        self.bad_rows = BadRows(table.options, table.report)
        self.names: dict[str, None] = {}  # all keys read so far, in order

    @property
    def columns(self) -> list[str] | None:
        """All keys of the objects; None before the first one, since each object may have others."""
        return list(self.names) or None

    @property
    def ends(self) -> list[Lineage]:
        """The digest of the file."""
        return [self.utf8.end]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The wanted columns. Raises InputError on what is not an object of texts and numbers."""
        schema = pa.schema([(name, pa.string()) for name in self.wanted])
        rows = self._rows()
        while block := list(itertools.islice(rows, ROWS)):
            columns = list(zip(*block)) if self.wanted else []
            arrays = [pa.array(column, pa.string()) for column in columns]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _rows(self) -> Iterator[list[str | None]]:
        text = io.TextIOWrapper(io.BufferedReader(self.utf8, PIECE), "utf-8", newline="\n")
        first = text.read(1)
        while first.isspace():
            first = text.read(1)
        values = self._array_items(text) if first == "[" else self._lines(text, first)
        for position, value in values:
            row = self._row(position, value)
            if row is not None:
                yield row

    def _row(self, position: str, value: Json) -> list[str | None] | None:
        """The wanted cells of an object; None for one that is dropped."""
        if not isinstance(value, dict):
            self._reject(f"{position}: not a JSON object: {str(value)[:60]}", NO_OBJECT)
            return None
        self.names.update(dict.fromkeys(value))
        cells = [value.get(name) for name in self.wanted]
        try:
            row = [_as_text(cell) for cell in cells]
        except (TypeError, UnicodeEncodeError) as error:
            self._reject(f"{position}: {error}", NO_OBJECT)
            return None
        for name, cell in zip(self.wanted, cells):
            if isinstance(cell, list) and len(cell) > 1:
                self.list_cells[name] += 1
        return row

    def _lines(self, text: TextIO, first: str) -> Iterator[tuple[str, Json]]:
        """(position in the file, value) of each line. first: the character read already."""
        first_line = [first + text.readline()] if first else []
        for number, line in enumerate(itertools.chain(first_line, text), 1):
            if not line or line.isspace():
                continue
            position = f"line {number:,}"
            if UNDECODABLE in line:
                self._reject(f"{position}: not {self.utf8.encoding}", "undecodable")
                continue
            try:
                yield position, DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                shown = line[:60].rstrip()
                self._reject(f"{position}: no JSON ({error}): {shown}", NO_OBJECT)

    def _array_items(self, text: TextIO) -> Iterator[tuple[str, Json]]:
        """The items of an array, one after the other: the file need not fit into memory."""
        buffer = ""
        position = 0  # in the buffer
        number = 0
        is_complete = False
        while True:
            separators = SEPARATORS.match(buffer, position)
            assert separators is not None  # it matches the empty text too
            position = separators.end()
            if buffer[position : position + 1] == "]":
                return
            try:
                value, position = DECODER.raw_decode(buffer, position)
            except (ValueError, RecursionError) as error:
                unread = len(buffer) - position
                if is_complete or unread > LONGEST:
                    raise InputError(
                        f"{self.where}, item {number + 1:,}: no JSON ({error})",
                        "correct the array, or write one object a line",
                    ) from None
                more = text.read(max(PIECE, unread))
                buffer = buffer[position:] + more
                position = 0
                is_complete = not more
                continue
            number += 1
            yield f"item {number:,}", value

    def _reject(self, what: str, reason: str) -> None:
        self.bad_rows.reject(f"{self.where}, {what}", reason, fix="correct the row")


def _as_text(value: Json) -> str | None:
    """A cell as text; TypeError for an object, UnicodeEncodeError for half a surrogate pair."""
    cell: str | None
    if value is None or isinstance(value, str):
        cell = value
    elif isinstance(value, bool):
        cell = "true" if value else "false"
    elif isinstance(value, list):
        cell = " ".join(text for text in map(_as_text, value) if text is not None)
    else:
        raise TypeError(f"a cell holds an object: {json.dumps(value)[:60]}")
    if cell is not None and not cell.isascii():
        cell.encode()
    return cell


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
