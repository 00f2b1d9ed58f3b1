"""A table of text cells from CSV, TSV, JSONL, Parquet or Arrow, batch by batch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from csv2pairs import encoding
from fletching.errors import Refused, Usage
from fletching.report import Report
from fletching.schema import Schema, canonical, cast
from fletching.stream.reader import open_rows, rechunk
from fletching.stream.sources import Source, resolve, sniff

if TYPE_CHECKING:
    from csv2pairs.cli import Options

BLOCK = 16 << 20  # no row of a CSV may be longer than this
ANY = Schema("table", "1.0", "", ())
DELIMITERS = ",;\t|"


class Table:
    """Rows of the columns that the options name, in batches of 8,192; a missing cell is null."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options, self.report = options, report
        self.sources = resolve(options.inputs)
        self.used = _used(options)
        self.schema = pa.schema([pa.field(name, pa.string()) for name in self.used])
        self.ends: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in rechunk(self._batches(), self.schema):
            batch = batch.slice(0, self.options.limit - rows) if self.options.limit else batch
            rows += batch.num_rows
            self.report.rows_in += batch.num_rows
            yield batch
            if rows == self.options.limit:
                return

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for source in self.sources:
            for batch in self._open(source):
                missing = [name for name in self.used if name not in batch.schema.names]
                if missing:
                    names = ", ".join(f"`{name}`" for name in batch.schema.names[:12])
                    raise Usage(f"{source.where} has no column `{missing[0]}`; it has {names}", "name one of these, or name the columns of a table without header by --columns")
                cells = [_text(batch[name], name, source.where) for name in self.used]
                yield self._empty_nulls(pa.RecordBatch.from_arrays(cells, schema=self.schema))

    def _empty_nulls(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self.options.null:
            return batch
        markers = pa.array(self.options.null)
        cells = [pc.if_else(pc.is_in(cell, markers), pa.scalar(None, pa.string()), cell) for cell in batch.columns]
        return pa.RecordBatch.from_arrays(cells, schema=batch.schema)

    def _open(self, source: Source) -> Iterator[pa.RecordBatch]:
        file = source.open()
        kind, tail = sniff(file)
        head = tail.peek(64)
        named_csv = (source.path or "").removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".tsv"))
        is_json = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") and not (named_csv or self.options.columns)
        if kind == "empty":
            raise Refused(f"{source.where} is empty (0 bytes)", "a table has at least a header line")
        if kind == "text" and not is_json:
            yield from self._csv(source, tail)
            return
        if source.path is not None:
            tail.close()
            opened = open_rows(source, ANY)
        else:
            opened = _stdin(kind, tail, source)
        for _, batch in opened.batches():
            yield batch
        self.steps.append(opened.step)
        self.ends += opened.ends

    def _csv(self, source: Source, tail: Any) -> Iterator[pa.RecordBatch]:
        again = None if source.path is None else lambda: sniff(source.open())[1]
        given = self.options.encoding
        codec = encoding.named(given) if given else encoding.detect(tail.peek(4), again, source.where)
        if not given and codec not in ("utf-8-sig", "utf-16", "utf-32"):
            self.report.note(f"{source.where} is read as {codec}, the only encoding that fits")
        utf8 = io.BufferedReader(encoding.Utf8(tail, codec, source.where), BLOCK)
        first = utf8.peek(1).split(b"\n")[0].decode(errors="replace").rstrip("\r")
        delimiter = (self.options.delimiter or _delimiter(first)).replace("\\t", "\t")
        names = list(self.options.columns) or _header(utf8, delimiter, source.where)
        bad: list[arrow_csv.InvalidRow] = []
        reader = self._parse(utf8, names, delimiter, bad, source)
        seen = 0
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                batch = None
            except pa.ArrowInvalid as error:
                raise Refused(f"{source.where}: no valid CSV ({error})", "check quotes and --delimiter") from None
            if len(bad) > seen:
                self._bad_rows(bad[seen:], source)
                seen = len(bad)
            if batch is None:
                return
            yield batch

    def _parse(self, utf8: Any, names: list[str], delimiter: str, bad: list, source: Source) -> Any:
        def invalid(row: arrow_csv.InvalidRow) -> str:
            bad.append(row)
            return "skip"

        try:
            return arrow_csv.open_csv(
                utf8,
                read_options=arrow_csv.ReadOptions(block_size=BLOCK, skip_rows_after_names=0 if self.options.columns else 1, column_names=names, use_threads=False),
                parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=invalid),
                convert_options=arrow_csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):  # a header and nothing else
                return pa.RecordBatchReader.from_batches(pa.schema([(name, pa.string()) for name in names]), [])
            raise Refused(f"{source.where}: no valid CSV ({error})", "check quotes and --delimiter") from None

    def _bad_rows(self, rows: list[arrow_csv.InvalidRow], source: Source) -> None:
        first = rows[0]
        what = f"{source.where}, row {first.number - (not self.options.columns)}: {first.actual_columns} cells instead of {first.expected_columns}: {first.text[:60]}"
        if self.options.bad_rows == "refuse":
            raise Refused(what, "quote the cell, or leave such rows out by --bad-rows drop")
        self.report.rows_in += len(rows)
        self.report.drop("with the wrong number of cells", len(rows))
        self.report.note(f"dropped {what}")


def _used(options: Options) -> list[str]:
    """The columns that the options name, once each; all of a template's."""
    import string

    fields = [name for _, name, _, _ in string.Formatter().parse(options.template or "") if name]
    single = [options.query, options.category, options.domain, options.id, options.split_by]
    return list(dict.fromkeys(name for name in [*single, *options.pos, *fields, *options.keep] if name))


def _stdin(kind: str, tail: Any, source: Source) -> Any:
    from fletching.stream import arrow, jsonl, parquet
    from fletching.stream.sources import spool

    if kind == "arrow-stream":
        return arrow.Stream(tail, source.where)
    if kind == "text":
        return jsonl.File(tail, source.where, ANY)
    return (parquet if kind == "parquet" else arrow).File(spool(tail), source.where)


def _text(cells: pa.Array, name: str, where: str) -> pa.Array:
    """Cells as text: strings as they are, lists joined by one blank, numbers as Arrow prints them."""
    kind = canonical(cells.type)
    try:
        if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
            return pc.binary_join(cast(cells, kind), " ")
        return cast(cast(cells, kind), pa.string())
    except (pa.ArrowException, NotImplementedError):
        raise Refused(f"{where}: column `{name}` is {cells.type} and cannot be read as text", "name another column") from None


def _delimiter(first: str) -> str:
    """The delimiter that stands most often in the header line, outside quotes."""
    outside = "".join(first.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def _header(utf8: Any, delimiter: str, where: str) -> list[str]:
    """The names of the header line, left unread."""
    head = utf8.peek(1).decode(errors="ignore")
    names = next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), [])
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Refused(f"{where}: the header has the column `{twice}` twice", "rename one of them")
    return names
