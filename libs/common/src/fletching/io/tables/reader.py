"""All inputs of a run as one table of text cells, batch by batch."""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from fletching.column_names import first_repeated
from fletching.errors import InputError, UsageError
from fletching.io.reader import rechunk
from fletching.io.sources import Source, resolve
from fletching.io.tables.registry import file_extensions, format_by_signature, open_table
from fletching.io.tables.table_input import TableInput
from fletching.io.tables.table_options import CellKind, TableOptions
from fletching.io.tables.text_cells import ARROW_TYPES, CellReader
from fletching.protocols import Lineage
from fletching.report import Report

SHOWN_COLUMNS = 12
THREAD_MEMORY = 32 << 20  # bytes of address space: its stack, and what it allocates first


class TableReader:
    """Rows of named columns from several inputs, in batches of 8,192; a missing cell is null.

    columns: those to read, each with what its cells become. required: those that every input has.
    separators: what separates the texts in a cell of a LIST column. limit: read only the first
    rows.
    lineage_nodes, ends: the lineage of inputs that carry one, and the digests of those that are
    text. joined_lists: cells, by TEXT column, that were lists of several items. columns_seen: of
    all inputs read so far.

    Iterating raises InputError where an input is damaged, UsageError where it lacks a column.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        options: TableOptions,
        report: Report,
        *,
        columns: Mapping[str, CellKind],
        required: Collection[str] = (),
        separators: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> None:
        self.options = options
        self.report = report
        self.sources = resolve(inputs, extensions=file_extensions())
        self.cells = columns
        self.required = required
        self.limit = limit
        self.schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in columns.items()])
        self.columns_seen: set[str] = set()
        self.joined_lists: Counter[str] = Counter()
        self.cell_reader = CellReader(options.null, separators or {}, self.joined_lists)
        self.ends: list[Lineage] = []
        nodes = [self._stored_lineage(source) for source in self.sources]
        self.lineage_nodes: list[Lineage] = [node for node in nodes if node]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in rechunk(self._batches(), self.schema):
            if self.limit is not None:
                batch = batch.slice(0, self.limit - rows)
            rows += batch.num_rows
            self.report.rows_in += batch.num_rows
            yield batch
            if rows == self.limit:
                break
        was_read_whole = rows > 0 and rows != self.limit
        unseen = [name for name in self.cells if name not in self.columns_seen]
        if unseen and was_read_whole:
            raise UsageError(f"no input has a column `{unseen[0]}`", "correct the name")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for source in self.sources:
            batches = self._batches_of(source)
            if source.path is not None and os.path.isfile(source.path):
                batches = read_ahead(batches)
            for batch in batches:
                self.columns_seen.update(batch.schema.names)
                yield self._with_all_columns(batch, source.where)

    def _batches_of(self, source: Source) -> Iterator[pa.RecordBatch]:
        opened = open_table(source, self.options, self.report, columns=self.cells)
        names = opened.columns
        if names is not None:
            self._check_columns(source, names)
        if source.path is None and opened.lineage_node is not None:
            self.lineage_nodes.append(opened.lineage_node)
        yield from opened.batches()
        if names is None and opened.columns is not None:  # known at the end of the file alone
            self._check_columns(source, opened.columns)
            self.columns_seen.update(opened.columns)
        self.ends += opened.ends

    def _stored_lineage(self, source: Source) -> Lineage | None:
        """The lineage in a file's metadata; None for text, and for stdin, which opens only once."""
        if source.path is None:
            return None
        table_input = TableInput(source, self.options, self.report)
        table_format = format_by_signature(table_input)
        if table_format is None or not table_format.has_lineage:
            table_input.stream.close()
            return None
        return table_format.open(table_input).lineage_node

    def _with_all_columns(self, batch: pa.RecordBatch, where: str) -> pa.RecordBatch:
        arrays = []
        for name, kind in self.cells.items():
            if name in batch.schema.names:
                arrays.append(self.cell_reader.read(batch[name], kind, name=name, where=where))
            else:
                arrays.append(pa.nulls(len(batch), ARROW_TYPES[kind]))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _check_columns(self, source: Source, names: list[str]) -> None:
        repeated = first_repeated(names)
        if repeated in self.cells:
            what = f"{source.where} has the column `{repeated}` more than once"
            raise InputError(what, "rename or remove one of them")
        missing = [name for name in self.required if name not in names]
        if not missing:
            return
        shown = ", ".join(f"`{name}`" for name in names[:SHOWN_COLUMNS])
        if len(names) > SHOWN_COLUMNS:
            shown += f" and {len(names) - SHOWN_COLUMNS} more"
        raise UsageError(
            f"{source.where} has no column `{missing[0]}`; it has {shown}",
            "name one of these; `csv2pairs --columns` names those of a table without header",
        )


def read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, the next one parsed while the last one is worked on.

    For files: a thread that waits for a pipe could not be interrupted.
    """
    _require_memory_of_a_thread()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def _require_memory_of_a_thread() -> None:
    """Raise MemoryError where a thread could not start: Python waits for ever for one that dies."""
    try:
        mmap.mmap(-1, THREAD_MEMORY).close()
    except OSError:
        raise MemoryError from None
