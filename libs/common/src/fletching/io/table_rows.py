"""CSV, TSV and workbooks whose columns are named as `examples` or `texts` are: no csv2pairs needed.

Cells are text. An empty one is null, except where the schema wants a text; ratings (`score`,
`label` …) are numbers. A TSV called triples or triplets may lack its header (MS MARCO).
"""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InputError
from fletching.io.formats import INPUT_FORMATS, InputFormat
from fletching.io.row_formats.column_types import SCORE_NAMES
from fletching.io.sources import Source
from fletching.io.streams import PeekableStream
from fletching.lineage import Node
from fletching.report import Report
from fletching.schema import Schema

if TYPE_CHECKING:
    from fletching.io.tables import OpenTable

RATINGS = (*SCORE_NAMES, "cos_sim", "pos_scores", "neg_scores")
TRIPLET = ("query", "pos", "neg")
TRIPLET_NAMES = ("triple", "triplet")  # in the name of the file
HEAD = 1 << 16  # bytes that the first lines fit in
HEAD_ROWS = 100  # whose cells decide whether a rating is a number


class TableRows:
    """The rows of a table as a row source. notes: how it was read."""

    def __init__(self, stream: PeekableStream, where: str, schema: Schema) -> None:
        self.where, self.known = where, schema
        self.report = Report("reader", quiet=True)
        head = stream.peek(HEAD)
        self.table = self._open(stream)
        columns = self.table.columns or []
        ratings = [name for name in columns if name in RATINGS]
        numeric = self._numeric(ratings, head) if ratings else []
        types = {name: pa.float64() if name in numeric else pa.string() for name in columns}
        self.schema = pa.schema(types.items())
        self.row = 1

    def _open(self, stream: PeekableStream | None = None) -> OpenTable:
        from fletching.io.tables import TableOptions, open_table  # only where there is a table

        source = Source(self.where, self.where)
        options = TableOptions()
        if stream is not None and self._is_headless_triplets(stream):
            self.report.note(f"{self.where} has no header: reading {', '.join(TRIPLET)}")
            options = TableOptions(delimiter="\t", quote="none", columns=TRIPLET)
        return open_table(source, options, self.report, stream=stream)

    def _is_headless_triplets(self, stream: PeekableStream) -> bool:
        """Is it a TSV called triplets whose first line has three cells, none a known column?"""
        name = os.path.basename(self.where).lower()
        if ".tsv" not in name or not any(word in name for word in TRIPLET_NAMES):
            return False
        first_line = stream.peek(HEAD).split(b"\n")[0].rstrip(b"\r").decode(errors="replace")
        cells = first_line.split("\t")
        known = {name for field in self.known.fields for name in field.names}
        return len(cells) == len(TRIPLET) and known.isdisjoint(cells)

    @property
    def notes(self) -> list[str]:
        """Encoding, sheet, missing header."""
        return self.report.notes

    @property
    def lineage_node(self) -> Node:
        """None is known."""
        return {}

    @property
    def ends(self) -> list[Node]:
        """The digest of the file."""
        return self.table.ends

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with its schema. Raises InputError for a row that cannot be read."""
        for batch in self.table.batches():
            arrays = [self._column(batch, field) for field in self.schema]
            yield self.schema, pa.RecordBatch.from_arrays(arrays, schema=self.schema)
            self.row += batch.num_rows

    def _numeric(self, names: list[str], head: bytes) -> list[str]:
        """Those of these columns whose first cell is a number. head: the first bytes of the file.

        Text is parsed here: the thread of pyarrow's reader, started for a look, may abort an exit.
        """
        delimiter = getattr(self.table, "delimiter", None)
        if delimiter is None:  # a workbook
            first = next(iter(self._open().batches()), None)
            return [name for name in names if first is not None and _is_number(first.column(name))]
        lines = io.StringIO(head.decode(errors="replace"), newline="")
        try:
            rows = list(itertools.islice(csv.reader(lines, delimiter=delimiter), HEAD_ROWS))
        except csv.Error as error:  # a cell longer than 128 kB
            what = f"{self.where}: not a valid table ({error})"
            raise InputError(what, "make the cell shorter, or read it with csv2pairs") from None
        columns = self.table.columns or []
        numeric = []
        for name in names:
            position = columns.index(name)
            cells = [row[position] for row in rows[1:] if position < len(row)]
            if _is_number(pa.array(cells, pa.string())):
                numeric.append(name)
        return numeric

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        cells = batch.column(field.name)
        if self._is_required(field.name):
            return cells
        cells = _without_empty(cells)
        if field.type == pa.string():
            return cells
        texts = cells.to_pylist()
        numbers = [None if text is None else _as_number(text) for text in texts]
        for row, (text, number) in enumerate(zip(texts, numbers), self.row):
            if text is not None and number is None:
                what = f"{self.where}, row {row:,}: `{field.name}` is no number ({text[:60]!r})"
                raise InputError(what, "correct the cell, or leave it empty")
        return pa.array(numbers, field.type)

    def _is_required(self, name: str) -> bool:
        return any(field.required and name in field.names for field in self.known.fields)


def _without_empty(cells: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)


def _is_number(cells: pa.Array) -> bool:
    present = _without_empty(cells).drop_null()
    return len(present) > 0 and _as_number(present[0].as_py()) is not None


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _open(stream: PeekableStream, where: str, schema: Schema) -> TableRows:
    return TableRows(stream, where, schema)


INPUT_FORMATS.register("csv", InputFormat(extensions=(".csv",), open=_open))
INPUT_FORMATS.register("tsv", InputFormat(extensions=(".tsv", ".tab"), open=_open))
INPUT_FORMATS.register("excel", InputFormat(extensions=(".xlsx", ".xls", ".ods"), open=_open))
