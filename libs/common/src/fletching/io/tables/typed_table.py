"""Parquet, Arrow and whatever else `fletching.io` recognises by its first bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.io.formats import EMPTY, INPUT_FORMATS, TEXT
from fletching.io.opening import open_sniffed
from fletching.io.tables.registry import TABLE_FORMATS, DetectedBy, TableFormat
from fletching.io.tables.table_input import TableInput
from fletching.protocols import Lineage, RowSource
from fletching.schema import Schema

ANY_COLUMNS = Schema(name="table", version="1.0", description="", fields=())


class TypedTable:
    """An `OpenTable` of rows with Arrow types."""

    def __init__(self, rows: RowSource) -> None:
        self.rows = rows

    @property
    def columns(self) -> list[str] | None:
        """The names of the schema."""
        return list(self.rows.schema.names)

    @property
    def lineage_node(self) -> Lineage | None:
        """The lineage in the metadata."""
        return self.rows.lineage_node

    @property
    def ends(self) -> list[Lineage]:
        """What its writer knew at the end."""
        return self.rows.ends

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in the types of the file."""
        for _, batch in self.rows.batches():
            yield batch


def has_signature(table: TableInput) -> bool:
    """Do its first bytes name a format of `fletching.io`?"""
    return table.signature not in (TEXT, EMPTY)


def open_typed(table: TableInput) -> TypedTable:
    """A plain file is mapped; a pipe is copied first where the format ends with its index."""
    rows = open_sniffed(table.source, ANY_COLUMNS, kind=table.signature, stream=table.stream)
    return TypedTable(rows)


def typed_extensions() -> tuple[str, ...]:
    """Of the files in such formats."""
    formats = [each for each in INPUT_FORMATS.values() if each.magic]
    return tuple(name for each in formats for name in each.extensions)


TABLE_FORMATS.register(
    "Parquet or Arrow",
    TableFormat(
        extensions=typed_extensions(),
        detected_by=DetectedBy.SIGNATURE,
        matches=has_signature,
        open=open_typed,
        has_lineage=True,
    ),
)
