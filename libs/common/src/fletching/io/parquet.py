"""Parquet with page checksums, which are verified on reading, and rows and digest in the footer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from fletching import lineage
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.io.arrow import DAMAGE, plain, verify

READ_ROWS = 8192


class ParquetFile:
    """A Parquet file, ours or any other program's."""

    def __init__(self, file: Any, where: str) -> None:
        self.where = where
        self.rows = 0
        try:
            self.file = pq.ParquetFile(file, page_checksum_verification=True)
            self.schema = self.file.schema_arrow
            footer = self.file.metadata.metadata or {}
            self.end: dict[str, Any] | None = (
                json.loads(footer[lineage.END_KEY]) if lineage.END_KEY in footer else None
            )
            if not isinstance(self.end, dict | None):
                raise ValueError(f"footer key {lineage.END_KEY.decode()} is no object")
        except DAMAGE as error:
            raise InputError(
                f"{where} is no complete Parquet file ({error})", "make the file again"
            ) from None

    @property
    def step(self) -> dict[str, Any]:
        """The lineage; a rewritten file keeps the key in its schema but not the one in its footer."""
        node = lineage.read(self.schema.metadata).get("step", {})
        return lineage.after_unknown_program(node) if node and self.end is None else node

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [self.end or {}]

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        digest = RowDigest()
        batches = self.file.iter_batches(READ_ROWS)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    break
                batch.validate(full=True)
                if self.end is not None:
                    digest.update(plain(batch))
            except DAMAGE as error:
                raise InputError(
                    f"{self.where} is damaged after {self.rows:,} rows ({error})",
                    "make the file again",
                ) from None
            yield self.schema, batch
            self.rows += batch.num_rows
        verify(self.where, self.end, digest)


class ParquetSink:
    """Row groups of what it is given, one each: text compressed, vectors plain."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        leaves = [(field.name, _leaf(field)) for field in schema]
        vectors = {
            leaf for (name, leaf) in leaves if pa.types.is_fixed_size_list(schema.field(name).type)
        }
        texts = [leaf for _, leaf in leaves if leaf not in vectors]
        compression = {leaf: "NONE" if leaf in vectors else "ZSTD" for _, leaf in leaves}
        self.writer = pq.ParquetWriter(
            file,
            schema,
            compression=compression if vectors else "zstd",
            use_dictionary=texts if vectors else True,
            write_page_checksum=True,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        self.writer.write_table(
            pa.Table.from_batches([batch]), row_group_size=max(batch.num_rows, 1)
        )

    def close(self, end: dict[str, Any]) -> None:
        self.writer.add_key_value_metadata({lineage.END_KEY.decode(): lineage.dump(end).decode()})
        self.writer.close()

    def abandon(self) -> None:
        """Leave the file without a footer; pyarrow would write one when it drops the writer."""
        self.writer.is_open = False


def _leaf(field: pa.Field) -> str:
    """The Parquet path of a column's leaf, as compression and dictionary settings name it."""
    is_list = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    return f"{field.name}.list.element" if is_list else field.name
