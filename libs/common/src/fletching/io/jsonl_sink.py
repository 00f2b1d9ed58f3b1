"""JSON lines out: compact, compressed by extension, equal bytes for equal rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
from pyarrow.types import is_float32, is_list, is_struct

from fletching.io.formats import OUTPUT_FORMATS, OutputFormat
from fletching.lineage import Node

JsonRow = dict[str, Any]


class _ByteSink(Protocol):
    """A file, or a compressor in front of it."""

    def write(self, content: bytes, /) -> object:
        """Append bytes."""

    def close(self) -> None:
        """Flush and finish."""


class JsonlSink:
    """Compact JSON lines without nulls, compressed by extension; equal bytes for equal rows.

    The first line names the columns that are null in the whole first batch, so that no column is
    lost and readers know of those whose values come late.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.file = file
        self.has_rows = False
        self.sink: _ByteSink = file
        if path.endswith(".gz"):  # no clock and no name inside
            self.sink = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
        elif path.endswith(".zst"):
            self.sink = _zstd(file)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a line for each row."""
        columns = [_with_shortest_digits(column) for column in batch.columns]
        rows = pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()
        if not rows:
            return
        lines = [_to_json(row) for row in rows]
        if not self.has_rows:
            self.has_rows = True
            empty = [
                name for name in batch.schema.names if batch.column(name).null_count == len(rows)
            ]
            lines[0] = _to_json(rows[0], named=empty)
        self.sink.write(("\n".join(lines) + "\n").encode())

    def close(self, end: Node) -> None:
        """End the compression."""
        if self.sink is not self.file:
            self.sink.close()

    def abandon(self) -> None:
        """Nothing to do: JSON lines have no end."""


def _to_json(row: JsonRow, named: Collection[str] = ()) -> str:
    """The row without its nulls, except those of the columns `named`."""
    present = {name: value for name, value in row.items() if value is not None or name in named}
    return json.dumps(present, ensure_ascii=False, separators=(",", ":"), default=_to_text)


def _to_text(value: object) -> str:
    """Text for the Arrow values that json does not know: dates, decimals, bytes."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _with_shortest_digits(column: pa.Array) -> pa.Array:
    """float32 as the float64 with the fewest digits that reads back as the same float32.

    0.7, not 0.699999988079071. Also in lists and structs.
    """
    texts = _with_floats_as(pa.string(), column.type)
    if texts == column.type:
        return column
    return column.cast(texts).cast(_with_floats_as(pa.float64(), column.type))


def _with_floats_as(replacement: pa.DataType, kind: pa.DataType) -> pa.DataType:
    """The type with another one for each float32."""
    if is_float32(kind):
        return replacement
    if is_list(kind):
        return pa.list_(_with_floats_as(replacement, kind.value_type))
    if is_struct(kind):
        fields = [field.with_type(_with_floats_as(replacement, field.type)) for field in kind]
        return pa.struct(fields)
    return kind


def _zstd(file: BinaryIO) -> _ByteSink:
    """A compressor in front of the file; with a checksum, which pyarrow's does not write."""
    import zstandard

    compressor = zstandard.ZstdCompressor(write_checksum=True)
    return compressor.stream_writer(file, closefd=False)


def _create(file: BinaryIO, path: str, columns: pa.Schema) -> JsonlSink:
    return JsonlSink(file, path)


OUTPUT_FORMATS.register(
    "jsonl",
    OutputFormat(extensions=(".jsonl", ".jsonl.gz", ".jsonl.zst"), create=_create),
)
