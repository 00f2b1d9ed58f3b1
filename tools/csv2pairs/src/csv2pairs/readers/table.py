"""All inputs of a run as one table of text cells, batch by batch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from csv2pairs import templates
from csv2pairs.options import Options
from csv2pairs.readers.registry import detect_format, file_extensions, format_by_signature
from csv2pairs.readers.table_input import TableInput
from csv2pairs.readers.text_cells import cells_as_text, count_lists
from fletching.errors import InputError, UsageError
from fletching.io.reader import rechunk
from fletching.io.sources import Source, resolve
from fletching.protocols import Lineage
from fletching.report import Report

SHOWN_COLUMNS = 12


class Table:
    """Rows of the columns that the options name, in batches of 8,192; a missing cell is null.

    `lineage_nodes` and `ends` are the lineage of inputs that carry one, and the digests of those
    that are text. Iterating raises InputError where an input is damaged, UsageError where it lacks
    a column.
    """

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.sources = resolve(options.inputs, extensions=file_extensions())
        self.required = required_columns(options)
        self.wanted = list(dict.fromkeys([*self.required, *options.keep]))
        self.schema = pa.schema([pa.field(name, pa.string()) for name in self.wanted])
        self.null_texts = pa.array(options.null, pa.string())
        self.columns_seen: set[str] = set()
        self.list_cells: Counter[str] = Counter()  # cells, by column, that were lists
        self.ends: list[Lineage] = []
        nodes = [self._stored_lineage(source) for source in self.sources]
        self.lineage_nodes: list[Lineage] = [node for node in nodes if node]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        limit = self.options.limit
        rows = 0
        for batch in rechunk(self._batches(), self.schema):
            if limit is not None:
                batch = batch.slice(0, limit - rows)
            rows += batch.num_rows
            self.report.rows_in += batch.num_rows
            yield batch
            if rows == limit:
                break
        self._note_lists()
        was_read_whole = rows > 0 and rows != limit
        unseen = [name for name in self.wanted if name not in self.columns_seen]
        if unseen and was_read_whole:
            raise UsageError(f"no input has a column `{unseen[0]}`", "correct --keep")

    def _note_lists(self) -> None:
        for name, cells in self.list_cells.items():
            note = f"column `{name}` holds lists in {cells:,} rows; each became one text"
            if name in ("pos", "neg") and {"query", "pos"} <= self.columns_seen:
                note += (
                    "; rows of `query` and `pos` are examples already, "
                    "which the other tools read as they are"
                )
            self.report.note(note)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for source in self.sources:
            batches = self._batches_of(source)
            if source.path is not None and os.path.isfile(source.path):
                batches = read_ahead(batches)
            for batch in batches:
                self.columns_seen.update(batch.schema.names)
                cells = [self._cells(batch, name, source.where) for name in self.wanted]
                yield pa.RecordBatch.from_arrays(cells, schema=self.schema)

    def _batches_of(self, source: Source) -> Iterator[pa.RecordBatch]:
        table_input = self._input(source)
        if table_input.is_empty:
            raise InputError(
                f"{source.where} is empty (0 bytes)", "a table has at least a header line"
            )
        opened = detect_format(table_input).open(table_input)
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

    def _input(self, source: Source) -> TableInput:
        return TableInput(
            source, self.options, self.report, wanted=self.wanted, list_cells=self.list_cells
        )

    def _stored_lineage(self, source: Source) -> Lineage | None:
        """The lineage in a file's metadata; None for text, and for stdin, which opens only once."""
        if source.path is None:
            return None
        table_input = self._input(source)
        table_format = format_by_signature(table_input)
        if table_format is None:
            table_input.stream.close()
            return None
        return table_format.open(table_input).lineage_node

    def _cells(self, batch: pa.RecordBatch, name: str, where: str) -> pa.StringArray:
        if name not in batch.schema.names:
            return pa.nulls(len(batch), pa.string())
        cells = batch[name]
        if cells.type != pa.string():
            lists = count_lists(cells)
            if lists:
                self.list_cells[name] += lists
            cells = cells_as_text(cells, name, where)
        if not len(self.null_texts):
            return cells
        is_null_text = pc.is_in(cells, self.null_texts)
        return pc.if_else(is_null_text, templates.NULL, cells)

    def _check_columns(self, source: Source, names: list[str]) -> None:
        missing = [name for name in self.required if name not in names]
        if not missing:
            return
        shown = ", ".join(f"`{name}`" for name in names[:SHOWN_COLUMNS])
        if len(names) > SHOWN_COLUMNS:
            shown += f" and {len(names) - SHOWN_COLUMNS} more"
        raise UsageError(
            f"{source.where} has no column `{missing[0]}`; it has {shown}",
            "name one of these, or name the columns of a table without header by --columns",
        )


def read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, the next one parsed while the last one is worked on.

    For files: a thread that waits for a pipe could not be interrupted.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def required_columns(options: Options) -> list[str]:
    """The columns that every input must have, once each. Raises UsageError on a bad template."""
    names: list[str] = []
    for option, text in _templates(options):
        template = templates.parse(text, option, column=option != "--template")
        names += template.columns
    single = [options.category, options.domain, options.id, *options.split_by]
    names += [name for name in single if name]
    return list(dict.fromkeys(names))


def _templates(options: Options) -> Iterator[tuple[str, str]]:
    """(option, value) of everything that may be a template."""
    if options.query:
        yield "--query", options.query
    if options.template:
        yield "--template", options.template
    if options.texts_template:
        yield "--template", options.texts_template
    for text in options.pos:
        yield "--pos", text
