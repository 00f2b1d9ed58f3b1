"""Sources opened as rows: by the content of a file, or as a data set of several files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import BinaryIO, cast

import pyarrow as pa

from fletching import lineage
from fletching import schema as contract
from fletching.errors import InputError
from fletching.io.arrow import REMAKE, UPSTREAM
from fletching.io.formats import (
    COMPRESSED,
    EMPTY,
    INPUT_FORMATS,
    TEXT,
    may_be_empty,
    text_format,
)
from fletching.io.row_formats.formatted_rows import in_examples
from fletching.io.row_formats.row_format import detect_folder, detect_row_format
from fletching.io.sources import Source, sniff
from fletching.io.streams import Decompressor, PeekableStream, spool
from fletching.protocols import Limitable, Retypable, RowSource
from fletching.schema import Schema

MOST_BLANKS = 4096  # bytes; more are no accident of a few


def open_rows(source: Source, schema: Schema, limit: int | None = None) -> RowSource:
    """The rows of a source, by its content.

    schema: gives known columns of a text format their type; for any table, one without fields will
    do.
    Raises InputError where the source cannot be opened or is damaged.
    """
    layout = detect_folder(source.path) if source.path else None
    if layout is not None:
        return layout.open(str(source.path), schema)
    kind, stream = sniff(source.open(), source.where)
    opened = open_sniffed(source, schema, kind=kind, stream=stream)
    if limit is not None and isinstance(opened, Limitable):
        opened.limit_rows(limit)
    return opened


def open_sniffed(source: Source, schema: Schema, *, kind: str, stream: PeekableStream) -> RowSource:
    """`open_rows` for a source that was opened by `sniff`, which gave `kind` and `stream`."""
    if kind == EMPTY and not (may_be_empty(source.path) and _is_whole(source, stream)):
        fix = UPSTREAM if source.path is None else REMAKE
        raise InputError(f"{source.where} is empty (0 bytes)", fix)
    is_blank_file = kind == TEXT and source.path is not None and _is_blank(stream)
    if is_blank_file and not (may_be_empty(source.path) and _is_whole(source, stream)):
        raise InputError(f"{source.where} holds nothing but blanks", REMAKE)
    file_format = text_format(source.path) if kind in (TEXT, EMPTY) else INPUT_FORMATS[kind]
    file = _seekable(source, stream) if file_format.needs_seek else stream
    return file_format.open(file, source.where, schema)


def _is_blank(stream: PeekableStream) -> bool:
    """Is it a few blanks, as of a file that was cut or overwritten?"""
    head = stream.peek(MOST_BLANKS)
    return len(head) < MOST_BLANKS and not head.strip()


def _is_whole(source: Source, stream: PeekableStream) -> bool:
    """Is a file that holds nothing complete? A compressed one has a few bytes even then."""
    is_named_so = source.path is not None and source.path.lower().endswith(COMPRESSED)
    return isinstance(stream.raw, Decompressor) or not is_named_so


def _seekable(source: Source, stream: PeekableStream) -> pa.NativeFile | BinaryIO:
    """A plain file, mapped where it is local; of a pipe or a compressed file a seekable copy."""
    raw = stream.raw
    is_plain = isinstance(raw, io.IOBase) and raw.seekable()
    if source.path is None or not is_plain:
        return spool(stream)
    if os.path.exists(source.path):
        return pa.memory_map(os.fsencode(source.path))  # also a name that is not UTF-8
    file = cast(BinaryIO, raw)
    file.seek(0)
    return file


def open_formatted(source: Source, schema: Schema, limit: int | None = None) -> RowSource:
    """The rows of a source as those of the schema, converted from the row format that they have."""
    opened = open_rows(source, schema, limit)
    return in_examples(opened) if schema.name == "examples" else opened


def open_as(
    source: Source, names: Sequence[str | Schema], limit: int | None = None
) -> tuple[RowSource, Schema]:
    """The source, and the one of these schemas that it holds."""
    schemas = [contract.load(name) if isinstance(name, str) else name for name in names]
    opened = open_rows(source, schemas[0], limit)
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
