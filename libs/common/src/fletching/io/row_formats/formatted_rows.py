"""A row source whose batches are converted from the row format that their columns show."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching import lineage
from fletching.io.row_formats.row_format import RowFormat, detect_row_format
from fletching.lineage import Node
from fletching.protocols import Noted, RowSource


class FormattedRows:
    """The rows of `source` as `examples`; `row_format` says what they were."""

    def __init__(self, source: RowSource, row_format: RowFormat) -> None:
        self.source, self.row_format = source, row_format
        self.where = source.where
        self._theirs = source.schema
        self.schema = _converted_schema(row_format, source.schema)

    @property
    def notes(self) -> list[str]:
        """Of the source."""
        return self.source.notes if isinstance(self.source, Noted) else []

    @property
    def lineage_node(self) -> Node:
        """Of the source."""
        return self.source.lineage_node

    @property
    def ends(self) -> list[Node]:
        """Of the source."""
        return self.source.ends

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each converted batch with its schema. Raises InputError on damage."""
        for theirs, batch in self.source.batches():
            if theirs is not self._theirs:  # the next of several concatenated streams
                self._theirs = theirs
                self.row_format = detect_row_format(theirs) or self.row_format
                self.schema = _converted_schema(self.row_format, theirs)
            yield self.schema, _convert(self.row_format, batch)


def _convert(row_format: RowFormat, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch as `examples`; as it is where it is of another format."""
    if row_format.to_examples is None or not row_format.detect(batch.schema):
        return batch
    return row_format.to_examples(batch)


def _converted_schema(row_format: RowFormat, columns: pa.Schema) -> pa.Schema:
    empty = pa.RecordBatch.from_pylist([], columns)
    return _convert(row_format, empty).schema.with_metadata(columns.metadata)


def in_examples(source: RowSource) -> RowSource:
    """The source, converted where its columns are those of a row format.

    A file with our stamp is `examples` already, whatever else its columns look like.
    """
    if lineage.read(source.schema.metadata):
        return source
    row_format = detect_row_format(source.schema)
    return source if row_format is None else FormattedRows(source, row_format)
