"""Parquet with page checksums, which are verified on reading, and rows and digest in the footer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.types import (
    is_fixed_size_list,
    is_list,
)

from fletching import column_names, lineage
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.io.arrow import DAMAGE, REMAKE, to_canonical, verify
from fletching.io.formats import INPUT_FORMATS, OUTPUT_FORMATS, InputFormat, OutputFormat
from fletching.lineage import Node
from fletching.schema import Schema

READ_ROWS = 8192
READ_BYTES = 64 << 20


class ParquetFile:
    """A Parquet file, ours or any other program's.

    end: what its writer knew at the end; None in a foreign file.
    """

    def __init__(self, file: pa.NativeFile | BinaryIO, where: str) -> None:
        self.where = where
        self.rows = 0
        try:
            self.file = _opened(file, where)
            self.schema = self.file.schema_arrow
            self.end = _read_end(self.file.metadata.metadata or {})
            self.rows_at_once = _rows_at_once(self.file.metadata)
        except DAMAGE as error:
            raise InputError(f"{where} is no complete Parquet file ({error})", REMAKE) from None

    @property
    def lineage_node(self) -> Node:
        """Of the rows; a rewritten file keeps the key in its schema but not that in its footer."""
        node = lineage.read_node(self.schema.metadata)
        return lineage.after_unknown_program(node) if node and self.end is None else node

    @property
    def ends(self) -> list[Node]:
        """What the footer states."""
        return [self.end or {}]

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with the schema of the file. Raises InputError on damage."""
        digest = RowDigest()
        for batch in self._checked(self.file.iter_batches(self.rows_at_once), digest):
            yield self.schema, batch
            self.rows += batch.num_rows
        verify(self.where, self.end, digest)

    def row_group(self, number: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The batches of one row group, with these columns. Raises InputError on damage."""
        batches = self.file.iter_batches(
            self.rows_at_once, row_groups=[number], columns=[*columns], use_threads=False
        )
        return self._checked(batches, position=f"in row group {number:,}")

    def _checked(
        self,
        batches: Iterator[pa.RecordBatch],
        digest: RowDigest | None = None,
        *,
        position: str = "",
    ) -> Iterator[pa.RecordBatch]:
        """Batches that are valid. digest: of all of them, where the file states its own."""
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)
                if digest is not None and self.end is not None:
                    digest.update(to_canonical(batch))
            except DAMAGE as error:
                where = position or f"after {self.rows:,} rows"
                what = f"{self.where} is damaged {where} ({error})"
                raise InputError(what, REMAKE) from None
            yield batch


def _opened(file: pa.NativeFile | BinaryIO, where: str) -> pq.ParquetFile:
    """The file, whose columns any other format can hold. Raises InputError."""
    try:
        opened = pq.ParquetFile(file, page_checksum_verification=True)
        columns = opened.schema_arrow
    except UnicodeDecodeError as error:
        raise column_names.not_utf8(error, where) from None
    column_names.check(columns, where)
    return opened


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """How many rows are read at once: fewer where they are long."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    return int(min(max(READ_BYTES / max(longest, 1), 1), READ_ROWS))


def _read_end(footer: dict[bytes, bytes]) -> Node | None:
    if lineage.END_KEY not in footer:
        return None
    end = json.loads(footer[lineage.END_KEY])
    if not isinstance(end, dict | None):
        raise ValueError(f"footer key {lineage.END_KEY.decode()} is no object")
    return end


class ParquetSink:
    """One row group for each batch: text compressed, vectors plain."""

    def __init__(self, file: BinaryIO, columns: pa.Schema) -> None:
        vectors = {_leaf(field) for field in columns if is_fixed_size_list(field.type)}
        leaves = [_leaf(field) for field in columns]
        compression = {leaf: "NONE" if leaf in vectors else "ZSTD" for leaf in leaves}
        others = [leaf for leaf in leaves if leaf not in vectors]
        self.writer = pq.ParquetWriter(
            file,
            columns,
            compression=compression if vectors else "zstd",
            use_dictionary=others if vectors else True,
            write_page_checksum=True,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a row group."""
        table = pa.Table.from_batches([batch])
        self.writer.write_table(table, row_group_size=max(batch.num_rows, 1))

    def close(self, end: Node) -> None:
        """Write the footer."""
        self.writer.add_key_value_metadata({lineage.END_KEY.decode(): lineage.dump(end).decode()})
        self.writer.close()

    def abandon(self) -> None:
        """Leave the file without a footer; pyarrow would write one when it drops the writer."""
        self.writer.is_open = False


def _leaf(field: pa.Field) -> str:
    """The Parquet path of a column's leaf, as compression and dictionary settings name it."""
    has_items = is_list(field.type) or is_fixed_size_list(field.type)
    return f"{field.name}.list.element" if has_items else field.name


def _open(file: pa.NativeFile | BinaryIO, where: str, schema: Schema) -> ParquetFile:
    return ParquetFile(file, where)


def _create(file: BinaryIO, path: str, columns: pa.Schema) -> ParquetSink:
    return ParquetSink(file, columns)


INPUT_FORMATS.register(
    "parquet", InputFormat(magic=b"PAR1", extensions=(".parquet",), open=_open, needs_seek=True)
)
OUTPUT_FORMATS.register("parquet", OutputFormat(extensions=(".parquet",), create=_create))
