"""JSON lines and JSON arrays of objects; plain text is refused with the tool that reads it."""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from fletching.errors import InputError
from fletching.io.sources import PeekableStream, _Readable
from fletching.schema import Schema

BLOCK = 8192


class JsonlFile:
    """Objects as batches: known columns in their type, unknown ones as inferred from the first block."""

    step: dict[str, Any] = {}

    def __init__(self, tail: PeekableStream, where: str, schema: Schema) -> None:
        self.where, self.known = where, schema
        self.objects = self._objects(io.BufferedReader(_Readable(tail), 1 << 20))
        self.rows = 0
        self.first = list(itertools.islice(self.objects, BLOCK))
        self.schema = self._infer([value for _, value in self.first])

    def retype(self, schema: Schema) -> None:
        """Read the columns as those of another schema."""
        self.known = schema
        self.schema = self._infer([value for _, value in self.first])

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [{}]

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        block, self.first = self.first, []
        while block:
            yield self.schema, self._batch(block)
            self.rows += len(block)
            block = list(itertools.islice(self.objects, BLOCK))

    def _objects(self, file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
        """(line number, object); the number of the item for a JSON array."""
        if file.peek(3)[:3] == codecs.BOM_UTF8:  # type: ignore[attr-defined]
            file.read(3)
        if file.peek(1)[:1] == b"[":  # type: ignore[attr-defined]
            items = self._load(file.read(), 1)
            yield from (
                (number, self._object(item, number)) for number, item in enumerate(items, 1)
            )
            return
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, self._object(self._load(line, number), number)

    def _load(self, text: bytes, number: int) -> Any:
        try:
            return json.loads(text.decode())
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.where}, line {number:,}: not UTF-8 (byte 0x{text[error.start]:02x})",
                "convert the file to UTF-8",
            ) from None
        except (ValueError, RecursionError) as error:
            shown = text[:60].decode(errors="replace").rstrip()
            fix = (
                "each line must be one JSON object"
                if number > 1 or text[:1] in b"{["
                else "tables (CSV, TSV) are read by csv2pairs alone"
            )
            reason = (
                f"{error.msg}, column {error.pos + 1}"
                if isinstance(error, json.JSONDecodeError)
                else error
            )
            raise InputError(
                f"{self.where}, line {number:,}: no JSON ({reason}): {shown}", fix
            ) from None

    def _object(self, value: Any, number: int) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InputError(
                f"{self.where}, line {number:,}: not an object: {json.dumps(value)[:60]}",
                "each line must be one JSON object",
            )
        return value

    def _infer(self, rows: list[dict[str, Any]]) -> pa.Schema:
        names = list(dict.fromkeys(name for row in rows for name in row))
        if not rows:  # an empty file still has the columns that its schema demands
            names = [field.name for field in self.known.fields if field.required]
        types = {}
        for name in names:
            field = next((f for f in self.known.fields if name in (f.name, *f.aliases)), None)
            values = [row[name] for row in rows if row.get(name) is not None]
            listed = bool(values) and isinstance(values[0], list)
            sample = next(
                (item for value in values for item in (value if listed else [value])), None
            )
            if field is None or field.arrow is None or (field.is_id and isinstance(sample, int)):
                types[name] = self._guess(name, values)
            elif (
                values and not listed and pa.types.is_list(field.arrow)
            ):  # one positive instead of a list
                types[name] = field.arrow.value_type
            else:
                types[name] = field.arrow
        return pa.schema(types.items())

    def _guess(self, name: str, values: list[Any]) -> pa.DataType:
        try:
            kind = pa.array(values).type
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            return pa.string()  # refused with its line when the batch is built
        if self.known.field(name) is not None and pa.types.is_list(kind) and values:  # a vector
            return pa.list_(pa.float32(), len(values[0]))
        return pa.string() if pa.types.is_null(kind) else kind

    def _batch(self, block: list[tuple[int, dict[str, Any]]]) -> pa.RecordBatch:
        unseen = next(
            (
                (number, name)
                for number, row in block
                for name in row
                if name not in self.schema.names
            ),
            None,
        )
        if unseen:
            raise InputError(
                f"{self.where}, line {unseen[0]:,}: new column `{unseen[1]}` after {self.rows:,} rows",
                "give the column to an earlier row too (null will do)",
            )
        arrays = [
            self._column(field, [(number, row.get(field.name)) for number, row in block])
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _column(self, field: pa.Field, values: list[tuple[int, Any]]) -> pa.Array:
        if pa.types.is_list(field.type):  # pyarrow would take a string for a list of characters
            values = [
                (number, [value] if isinstance(value, str) else value) for number, value in values
            ]
        try:
            return _exactly([value for _, value in values], field.type)
        except _MISFITS:
            for number, value in values:
                try:
                    _exactly([value], field.type)
                except _MISFITS:
                    shown = json.dumps(value)[:60]
                    raise InputError(
                        f"{self.where}, line {number:,}: `{field.name}` is no {field.type} ({shown})",
                        "correct the value",
                    ) from None
            raise


_MISFITS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def _exactly(values: list[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array, or one of _MISFITS. pyarrow alone cuts 1.5 to 1 in a column of whole numbers,
    forgets keys that a struct lacks and takes a string for a list of characters."""
    array = pa.array(values, kind)
    leaf = kind.value_type if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) else kind
    if not (pa.types.is_string(leaf) or pa.types.is_floating(leaf)) and not _is_kept(
        values, array.to_pylist()
    ):
        raise ValueError("a value would change")
    return array


def _is_kept(given: Any, kept: Any) -> bool:
    if isinstance(given, dict):
        return isinstance(kept, dict) and all(
            _is_kept(value, kept.get(name)) for name, value in given.items()
        )
    if isinstance(given, list):
        return (
            isinstance(kept, list) and len(given) == len(kept) and all(map(_is_kept, given, kept))
        )
    return given == kept or given != given  # NaN is kept


class JsonlSink:
    """Compact JSON lines without null fields, compressed by extension, equal bytes for equal rows."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.file = file
        if path.endswith(".gz"):  # no clock and no name inside
            self.sink: Any = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
        elif path.endswith(".zst"):
            self.sink = pa.CompressedOutputStream(pa.PythonFile(_Open(file), "w"), "zstd")
        else:
            self.sink = file

    def write(self, batch: pa.RecordBatch) -> None:
        lines = []
        shown = pa.RecordBatch.from_arrays(
            [_shortest(column) for column in batch.columns], batch.schema.names
        )
        for row in shown.to_pylist():
            present = {name: value for name, value in row.items() if value is not None}
            lines.append(
                json.dumps(present, ensure_ascii=False, separators=(",", ":"), default=_plain)
            )
        self.sink.write(("\n".join(lines) + "\n").encode() if lines else b"")

    def close(self, end: dict[str, Any]) -> None:
        if self.sink is not self.file:
            self.sink.close()


def _shortest(column: pa.Array) -> pa.Array:
    """float32 as the float64 with the fewest digits that reads back as the same: 0.7, not 0.699999988079071."""
    kind = column.type
    if pa.types.is_float32(kind):
        return column.cast(pa.string()).cast(pa.float64())
    if pa.types.is_list(kind) and pa.types.is_float32(kind.value_type):
        return column.cast(pa.list_(pa.string())).cast(pa.list_(pa.float64()))
    return column


class _Open:
    """A file that its compressor may not close: the writer still has to sync it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.flush = file.write, file.flush

    def close(self) -> None:
        self.flush()


def _plain(value: Any) -> Any:
    """JSON for the Arrow values that json does not know: dates, decimals, bytes."""
    return value.hex() if isinstance(value, bytes) else str(value)
