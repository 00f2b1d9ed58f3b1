"""A table of text cells from CSV, TSV, JSON, Parquet or Arrow, batch by batch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from csv2pairs import templates
from csv2pairs.options import Options
from csv2pairs.readers import encoding
from csv2pairs.readers.delimited import Cells, Dialect
from csv2pairs.readers.json_rows import Objects, no_column
from fletching.errors import InputError, UsageError
from fletching.io import arrow, parquet
from fletching.io.reader import open_rows, rechunk
from fletching.io.sources import EXTENSIONS, PeekableStream, Source, resolve, sniff, spool
from fletching.report import Report
from fletching.schema import Schema, canonical, cast

ANY = Schema("table", "1.0", "", ())
TABLES = (*EXTENSIONS, ".csv", ".tsv", ".tab")


class Table:
    """Rows of the columns that the options name, in batches of 8,192; a missing cell is null.

    `steps` and `ends` are the lineage of inputs that have one, and the digests of those that are text.
    """

    def __init__(self, options: Options, report: Report) -> None:
        self.options, self.report = options, report
        self.dialect = Dialect(options)
        self.codec = encoding.named(options.encoding) if options.encoding else None
        self.sources = resolve(options.inputs, extensions=TABLES)
        self.needed, self.used = _columns(options)
        self.schema = pa.schema([pa.field(name, pa.string()) for name in self.used])
        self.markers = pa.array(options.null, pa.string())
        self.ends: list[dict[str, Any]] = []
        self.steps = [step for source in self.sources if (step := _step(source))]
        self.found: set[str] = set()
        self.joined: Counter[str] = Counter()  # cells of a column that were lists of several items

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in rechunk(self._batches(), self.schema):
            batch = batch.slice(0, self.options.limit - rows) if self.options.limit else batch
            rows += batch.num_rows
            self.report.rows_in += batch.num_rows
            yield batch
            if rows == self.options.limit:
                break
        self._tell_lists()
        nowhere = [name for name in self.used if name not in self.found]
        if nowhere and rows and rows != self.options.limit:
            raise UsageError(f"no input has a column `{nowhere[0]}`", "correct --keep")

    def _tell_lists(self) -> None:
        for name, cells in self.joined.items():
            examples = name in ("pos", "neg") and {"query", "pos"} <= self.found
            self.report.note(
                f"column `{name}` holds lists in {cells:,} rows; each became one text"
                + (
                    "; rows of `query` and `pos` are examples already, which the other tools read as they are"
                    if examples
                    else ""
                )
            )

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for source in self.sources:
            plain = source.path is not None and os.path.isfile(source.path)
            for batch in _ahead(self._open(source)) if plain else self._open(source):
                names = batch.schema.names
                self.found.update(names)
                cells = [
                    self._cells(batch, name, source.where)
                    if name in names
                    else pa.nulls(len(batch), pa.string())
                    for name in self.used
                ]
                yield pa.RecordBatch.from_arrays(cells, schema=self.schema)

    def _cells(self, batch: pa.RecordBatch, name: str, where: str) -> pa.StringArray:
        cells = batch[name]
        if cells.type != pa.string():
            if pa.types.is_list(canonical(cells.type)) and (
                several := pc.sum(pc.greater(pc.list_value_length(cells), 1)).as_py()
            ):
                self.joined[name] += several
            cells = _text(cells, name, where)
        if not len(self.markers):
            return cells
        return pc.if_else(pc.is_in(cells, self.markers), pa.scalar(None, pa.string()), cells)

    def _check_names(self, where: str, names: list[str]) -> None:
        missing = [name for name in self.needed if name not in names]
        if missing:
            raise UsageError(*no_column(where, missing[0], names))

    def _open(self, source: Source) -> Iterator[pa.RecordBatch]:
        kind, tail = sniff(source.open())
        if kind == "empty":
            raise InputError(
                f"{source.where} is empty (0 bytes)", "a table has at least a header line"
            )
        if kind == "text":
            yield from self._text(source, tail)
            return
        if source.path is not None:
            tail.close()
            opened = open_rows(source, ANY)
        elif kind == "arrow-stream":
            opened = arrow.ArrowStream(tail, source.where)
        else:
            opened = (parquet if kind == "parquet" else arrow).File(spool(tail), source.where)
        self._check_names(source.where, opened.schema.names)
        if source.path is None:
            self.steps.append(opened.step)
        for _, batch in opened.batches():
            yield batch
        self.ends += opened.ends

    def _text(self, source: Source, tail: PeekableStream) -> Iterator[pa.RecordBatch]:
        tail, codec = self._encoding(source, tail)
        mark = self.options.bad_rows == "drop"
        if self._is_json(source, tail, codec):
            utf8 = encoding.Utf8(tail, codec, source.where, mark=mark)
            rows = Objects(utf8, self.used, self.options, self.report, self.joined)
            yield from rows.batches()
            if rows.names:
                self._check_names(source.where, list(rows.names))
                self.found.update(rows.names)
        else:
            swap = (
                (self.dialect.long, self.dialect.delimiter)
                if self.dialect.long and self.dialect.delimiter
                else None
            )
            utf8 = encoding.Utf8(
                tail, codec, source.where, mark=mark, swap=swap, quote=self.dialect.quote
            )
            cells = Cells(utf8, self.dialect, self.used, self.options, self.report)
            self._check_names(source.where, cells.names)
            yield from cells.batches()
        self.ends.append({"digest": f"xxh3-128-bytes:{utf8.digest.hexdigest()}"})

    def _encoding(self, source: Source, tail: PeekableStream) -> tuple[PeekableStream, str]:
        """The codec of a text, and the text from its start."""
        if self.codec:
            return tail, self.codec
        head = tail.peek(4096)
        if source.path is None:  # a pipe is looked through once before it is read
            copy = spool(tail)
            codec = encoding.detect(head, lambda: _Again(copy), source.where)
            tail = PeekableStream(_Again(copy))
        else:
            codec = encoding.detect(head, lambda: sniff(source.open())[1], source.where)
        if codec != "utf-8-sig":
            self.report.note(
                f"{source.where} is read as {codec}"
                + ("" if codec in ("utf-16", "utf-32") else ", the only encoding that fits")
            )
        return tail, codec

    def _is_json(self, source: Source, tail: PeekableStream, codec: str) -> bool:
        name = (source.path or "").removesuffix(".gz").removesuffix(".zst")
        if (
            name.endswith((".csv", ".tsv", ".tab"))
            or self.options.columns
            or self.options.delimiter
        ):
            return False
        head = tail.peek(64)
        return head[: len(head) // 4 * 4].decode(codec, errors="ignore").lstrip("\ufeff \t\r\n")[
            :1
        ] in ("{", "[")


def _ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, the next one parsed while the last one is worked on. For files: a thread that
    waits for a pipe could not be interrupted."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


class _Again:
    """A seekable copy read from its start, left open when its reader closes."""

    def __init__(self, file: Any) -> None:
        self.file = file
        file.seek(0)
        self.read = file.read

    def close(self) -> None:
        self.file.seek(0)


def _columns(options: Options) -> tuple[list[str], list[str]]:
    """(columns that every input must have, all columns that are read), once each."""
    texts = [
        templates.parse(text, option, column=option != "--template")
        for option, text in _named(options)
    ]
    single = [options.category, options.domain, options.id, *options.split_by]
    needed = [
        name for name in (*(name for text in texts for name in text.columns), *single) if name
    ]
    return list(dict.fromkeys(needed)), list(dict.fromkeys([*needed, *options.keep]))


def _named(options: Options) -> list[tuple[str, str]]:
    named = [
        ("--query", options.query),
        ("--template", options.template),
        ("--template", options.texts_template),
    ]
    return [(option, text) for option, text in named if text] + [
        ("--pos", text) for text in options.pos
    ]


def _step(source: Source) -> dict[str, Any] | None:
    """The lineage of a Parquet or Arrow file; None for text, and for stdin, which can be opened once only."""
    if source.path is None:
        return None
    kind, tail = sniff(source.open())
    tail.close()
    return (
        open_rows(source, ANY).step if kind in ("parquet", "arrow-file", "arrow-stream") else None
    )


def _text(cells: pa.Array, name: str, where: str) -> pa.StringArray:
    """Cells as text: lists joined by one blank, numbers as Arrow prints them."""
    kind = canonical(cells.type)
    try:
        if pa.types.is_list(kind):
            return pc.binary_join(cast(cast(cells, kind), pa.list_(pa.string())), " ")
        return cast(cast(cells, kind), pa.string())
    except (pa.ArrowException, NotImplementedError):
        raise InputError(
            f"{where}: column `{name}` is {cells.type} and cannot be read as text",
            "name another column",
        ) from None
