"""JSON lines and JSON arrays of objects; a table is refused with the tool that reads tables."""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
from pyarrow.types import (
    is_fixed_size_list,
    is_float32,
    is_floating,
    is_list,
    is_null,
    is_string,
)

from fletching.errors import InputError
from fletching.io.formats import INPUT_FORMATS, OUTPUT_FORMATS, InputFormat, OutputFormat
from fletching.io.streams import PeekableStream, RawStream
from fletching.lineage import Node
from fletching.schema import Field, Schema

BLOCK = 8192  # rows of a batch

JsonValue = Any  # what json.loads gives
JsonRow = dict[str, JsonValue]
NumberedRow = tuple[int, JsonRow]  # (number of the line or of the item of an array, object)


class JsonlFile:
    """Objects as batches. Known columns have their type; of others, the first block decides it."""

    def __init__(self, stream: PeekableStream, where: str, schema: Schema) -> None:
        self.where, self.known = where, schema
        self.rows = 0
        self.objects = self._objects(io.BufferedReader(RawStream(stream), 1 << 20))
        self.first = list(itertools.islice(self.objects, BLOCK))
        self.schema = self._infer()

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
        self.schema = self._infer()

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with its schema. Raises InputError for a line that is no such row."""
        block, self.first = self.first, []
        while block:
            yield self.schema, self._batch(block)
            self.rows += len(block)
            block = list(itertools.islice(self.objects, BLOCK))

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
                fix = "tables (CSV, TSV) are read by csv2pairs alone"
            raise InputError(f"{self._line(number)}: no JSON ({reason}): {shown}", fix) from None

    def _checked_object(self, value: JsonValue, number: int) -> JsonRow:
        if isinstance(value, dict):
            return value
        what = f"{self._line(number)}: not an object: {json.dumps(value)[:60]}"
        raise InputError(what, "each line must be one JSON object")

    def _line(self, number: int) -> str:
        return f"{self.where}, line {number:,}"

    # --- types -----------------------------------------------------------------------------------

    def _infer(self) -> pa.Schema:
        """The columns of the first block."""
        rows = [row for _, row in self.first]
        names = list(dict.fromkeys(name for row in rows for name in row))
        if not rows:  # an empty file has the columns that its schema requires
            names = [field.name for field in self.known.fields if field.required]
        types = {}
        for name in names:
            field = next((field for field in self.known.fields if name in field.names), None)
            values = [row[name] for row in rows if row.get(name) is not None]
            types[name] = self._type(name, field, values)
        return pa.schema(types.items())

    def _type(self, name: str, field: Field | None, values: list[JsonValue]) -> pa.DataType:
        if field is None or field.arrow is None:
            return self._guess(name, values)
        is_listed = bool(values) and isinstance(values[0], list)
        if field.is_id and isinstance(_first_item(values, is_listed), int):
            return self._guess(name, values)
        if values and not is_listed and is_list(field.arrow):
            return field.arrow.value_type  # one positive instead of a list
        return field.arrow

    def _guess(self, name: str, values: list[JsonValue]) -> pa.DataType:
        try:
            kind = pa.array(values).type
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            return pa.string()  # refused with its line when the batch is built
        is_vector = self.known.field(name) is not None and is_list(kind)
        if is_vector and values:
            return pa.list_(pa.float32(), len(values[0]))
        return pa.string() if is_null(kind) else kind

    # --- batches ---------------------------------------------------------------------------------

    def _batch(self, block: list[NumberedRow]) -> pa.RecordBatch:
        self._check_names(block)
        arrays = []
        for field in self.schema:
            values = [(number, row.get(field.name)) for number, row in block]
            arrays.append(self._column(field, values))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _check_names(self, block: list[NumberedRow]) -> None:
        known = set(self.schema.names)
        for number, row in block:
            if row.keys() <= known:
                continue
            new = next(name for name in row if name not in known)
            what = f"{self._line(number)}: new column `{new}` after {self.rows:,} rows"
            raise InputError(what, "give the column to an earlier row too (null will do)")

    def _column(self, field: pa.Field, values: list[tuple[int, JsonValue]]) -> pa.Array:
        if is_list(field.type):  # pyarrow would take a string for a list of characters
            values = [
                (number, [value] if isinstance(value, str) else value) for number, value in values
            ]
        try:
            return _exact_array([value for _, value in values], field.type)
        except _MISFITS:
            self._raise_first_misfit(field, values)
            raise

    def _raise_first_misfit(self, field: pa.Field, values: list[tuple[int, JsonValue]]) -> None:
        for number, value in values:
            try:
                _exact_array([value], field.type)
            except _MISFITS:
                shown = json.dumps(value)[:60]
                what = f"{self._line(number)}: `{field.name}` is no {field.type} ({shown})"
                raise InputError(what, "correct the value") from None


def _first_item(values: list[JsonValue], is_listed: bool) -> JsonValue:
    items = itertools.chain.from_iterable(values) if is_listed else values
    return next(iter(items), None)


_MISFITS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def _exact_array(values: list[JsonValue], kind: pa.DataType) -> pa.Array:
    """The values as an array; raises one of _MISFITS where it would change one.

    pyarrow alone cuts 1.5 to 1 in a column of whole numbers, forgets keys that a struct lacks and
    takes a string for a list of characters.
    """
    array = pa.array(values, kind)
    has_items = is_list(kind) or is_fixed_size_list(kind)
    leaf = kind.value_type if has_items else kind
    is_safe = is_string(leaf) or is_floating(leaf)
    if not is_safe and not _is_kept(values, array.to_pylist()):
        raise ValueError("a value would change")
    return array


def _is_kept(original: object, stored: object) -> bool:
    """Is the stored value the original one, NaN included?"""
    if isinstance(original, dict):
        return isinstance(stored, dict) and all(
            _is_kept(value, stored.get(name)) for name, value in original.items()
        )
    if isinstance(original, list):
        if not isinstance(stored, list) or len(original) != len(stored):
            return False
        return all(map(_is_kept, original, stored))
    is_nan = original != original
    return original == stored or is_nan


# --- writing -------------------------------------------------------------------------------------


class _ByteSink(Protocol):
    """A file, or a compressor in front of it."""

    def write(self, content: bytes, /) -> object:
        """Append bytes."""

    def close(self) -> None:
        """Flush and finish."""


class JsonlSink:
    """Compact JSON lines without nulls, compressed by extension; equal bytes for equal rows."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.file = file
        self.sink: _ByteSink = file
        if path.endswith(".gz"):  # no clock and no name inside
            self.sink = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
        elif path.endswith(".zst"):
            self.sink = pa.CompressedOutputStream(pa.PythonFile(_KeptOpen(file), "w"), "zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a line for each row."""
        columns = [_with_shortest_digits(column) for column in batch.columns]
        rows = pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()
        if rows:
            self.sink.write(("\n".join(map(_to_json, rows)) + "\n").encode())

    def close(self, end: Node) -> None:
        """End the compression."""
        if self.sink is not self.file:
            self.sink.close()

    def abandon(self) -> None:
        """Nothing to do: JSON lines have no end."""


def _to_json(row: JsonRow) -> str:
    present = {name: value for name, value in row.items() if value is not None}
    return json.dumps(present, ensure_ascii=False, separators=(",", ":"), default=_to_text)


def _to_text(value: object) -> str:
    """Text for the Arrow values that json does not know: dates, decimals, bytes."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _with_shortest_digits(column: pa.Array) -> pa.Array:
    """float32 as the float64 with the fewest digits that reads back as the same float32.

    0.7, not 0.699999988079071.
    """
    kind = column.type
    if is_float32(kind):
        return column.cast(pa.string()).cast(pa.float64())
    if is_list(kind) and is_float32(kind.value_type):
        return column.cast(pa.list_(pa.string())).cast(pa.list_(pa.float64()))
    return column


class _KeptOpen:
    """A file that its compressor may not close: the writer still has to sync it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.flush = file.write, file.flush

    def close(self) -> None:
        """Flush; the file stays open."""
        self.flush()


def _open(stream: PeekableStream, where: str, schema: Schema) -> JsonlFile:
    return JsonlFile(stream, where, schema)


def _create(file: BinaryIO, path: str, columns: pa.Schema) -> JsonlSink:
    return JsonlSink(file, path)


INPUT_FORMATS.register(
    "jsonl",
    InputFormat(
        extensions=(".jsonl", ".ndjson", ".json"), open=_open, empty_extensions=(".jsonl",)
    ),
)
OUTPUT_FORMATS.register(
    "jsonl", OutputFormat(extensions=(".jsonl", ".jsonl.gz", ".jsonl.zst"), create=_create)
)
