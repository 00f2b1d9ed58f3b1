"""The inputs of a tool as one sequence of checked batches in canonical types."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from fletching import lineage
from fletching import schema as contract
from fletching.errors import InputError
from fletching.io import arrow, jsonl, parquet
from fletching.io.sources import Source, resolve, sniff, spool
from fletching.report import Report

BATCH_ROWS = 8192
BATCH_BYTES = 64 << 20


class Reader:
    """Rows of one schema from files, folders, globs, URLs or stdin.

    Iterating gives record batches of at most 8,192 rows and 64 MB with the columns of `columns`; every
    promise of the schema holds for them. What is read counts as `rows_in` of the report unless
    `count=False` (side inputs). Several inputs are read in the order given; a column that one of them
    lacks is null there. Of several schemas, the stamp of the first input decides, else the first whose
    required columns it has; `schema.name` tells which. A schema is named, or given where a tool reads more aliases.

    Raises InputError where an input is damaged, cut, of another schema or breaks a promise.
    """

    def __init__(
        self,
        report: Report,
        inputs: Sequence[str],
        schema: str | Sequence[str | contract.Schema],
        *,
        limit: int | None = None,
        count: bool = True,
    ) -> None:
        self.report, self.limit, self.count = report, limit, count
        self.sources = resolve(inputs)
        self.ends: list[dict[str, Any]] = []
        self.rows = 0
        first, *others = self.sources
        self.opened, self.schema = open_as(first, [schema] if isinstance(schema, str) else schema)
        plans = [self._plan(self.opened)]
        # Schemas of all inputs are looked at first: a column may stand in the last file alone.
        self.steps = [self.opened.step]
        for source in others:
            other = open_rows(source, self.schema)
            plans.append(self._plan(other))
            self.steps.append(other.step)
        self.columns = self._union([plan.columns for plan in plans])
        self.renamed = {name: source for plan in plans for name, source in plan.renamed.items()}
        for ours, theirs in self.renamed.items():
            report.note(f"reading column `{theirs}` as `{ours}`")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Batches whose boundaries depend on the rows alone, not on files, chunks or pipe timing."""
        for batch in rechunk(self._rows(), self.columns):
            if self.count:
                self.report.rows_in += batch.num_rows
            yield batch

    def _rows(self) -> Iterator[pa.RecordBatch]:
        for number, source in enumerate(self.sources):
            opened = self.opened if number == 0 else open_rows(source, self.schema)
            for batch in self._batches(opened):
                if self.limit is not None:
                    batch = batch.slice(0, self.limit - self.rows)
                self.rows += batch.num_rows
                yield batch
                if self.rows == self.limit:
                    return
            self.ends += opened.ends

    def read_all(self) -> pa.Table:
        return pa.Table.from_batches(self, schema=self.columns)

    def _plan(self, opened: Any) -> contract.ColumnMapping:
        self._check_version(opened)
        return contract.ColumnMapping(self.schema, opened.schema, opened.where)

    def _check_version(self, opened: Any) -> None:
        stamp = lineage.read(opened.schema.metadata)
        name, version = (
            stamp.get("schema", self.schema.name),
            str(stamp.get("version", self.schema.version)),
        )
        if name != self.schema.name:
            raise InputError(
                f"{opened.where} holds {name}, but {self.report.tool} reads {self.schema.name} here",
                f"give it a file of {self.schema.name}",
            )
        if version.split(".")[0] != self.schema.major:
            raise InputError(
                f"{opened.where} is {name} {version}, but this {self.report.tool} reads {self.schema.version}",
                "use tools of the same major version",
            )

    def _union(self, columns: list[pa.Schema]) -> pa.Schema:
        known: dict[str, pa.Field] = {}
        unknown: dict[str, pa.Field] = {}
        for source, schema in zip(self.sources, columns):
            for field in schema:
                group = known if self.schema.field(field.name) else unknown
                before = group.setdefault(field.name, field)
                if pa.types.is_null(before.type):
                    group[field.name] = field
                elif not pa.types.is_null(field.type) and field.type != before.type:
                    raise InputError(
                        f"{source.where}: column `{field.name}` is {field.type}, but {before.type} in an input before",
                        "give the column one type in all inputs",
                    )
        ordered = [known[field.name] for field in self.schema.fields if field.name in known]
        return pa.schema([*ordered, *unknown.values()])

    def _batches(self, opened: Any) -> Iterator[pa.RecordBatch]:
        """Conformed batches, small enough for 32-bit string offsets."""
        plan, planned = self._plan(opened), opened.schema
        row = 1
        for schema, batch in opened.batches():
            if schema is not planned:  # the next of several concatenated streams may differ
                plan, planned = self._plan(opened), schema
                extra = [name for name in plan.columns.names if name not in self.columns.names]
                if extra:
                    raise InputError(
                        f"{opened.where}: column `{extra[0]}` comes up after {row - 1:,} rows",
                        "concatenate streams with the same columns, or name the files",
                    )
            for piece in split(batch):
                yield plan.apply(piece, self.columns, row)
                row += piece.num_rows


def open_rows(source: Source, schema: contract.Schema) -> Any:
    """The source as something with `schema`, `step`, `ends` and `batches()`, by its content.

    schema: gives known columns of JSONL their type; for any table, a schema without fields will do.
    """
    file = source.open()
    kind, tail = sniff(file, source.where)
    if kind == "empty" and not (source.path or "").endswith((".jsonl", ".jsonl.gz", ".jsonl.zst")):
        raise InputError(
            f"{source.where} is empty (0 bytes)",
            arrow.UPSTREAM if source.path is None else "make the file again",
        )
    if kind == "arrow-stream":
        return arrow.ArrowStream(tail, source.where)
    if kind in ("text", "empty"):
        return jsonl.JsonlFile(tail, source.where, schema)
    # Parquet and Arrow files want to seek: a plain file is mapped, anything else is spooled.
    plain = source.path is not None and tail.raw is file and file.seekable()
    if plain and os.path.exists(source.path or ""):
        mapped: Any = pa.memory_map(source.path)
    elif plain:
        file.seek(0)
        mapped = file
    else:
        mapped = spool(tail)
    return (
        parquet.ParquetFile(mapped, source.where)
        if kind == "parquet"
        else arrow.ArrowFile(mapped, source.where)
    )


def open_as(source: Source, names: Sequence[str | contract.Schema]) -> tuple[Any, contract.Schema]:
    """The source, and the one of these schemas that it holds."""
    schemas = [contract.load(name) if isinstance(name, str) else name for name in names]
    opened = open_rows(source, schemas[0])
    stamped = lineage.read(opened.schema.metadata).get("schema")
    here = set(opened.schema.names)
    by_columns = (
        s for s in schemas if all(here & {f.name, *f.aliases} for f in s.fields if f.required)
    )
    found = next((s for s in schemas if s.name == stamped), None) or next(by_columns, schemas[0])
    if found is not schemas[0] and isinstance(opened, jsonl.JsonlFile):
        opened.retype(found)
    return opened, found


def rechunk(batches: Iterable[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of 8,192 (fewer where that is over 64 MB), the last one smaller."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= BATCH_ROWS:
            table = pa.Table.from_batches(waiting, columns)
            whole = rows - rows % BATCH_ROWS
            yield from cut(table.slice(0, whole))
            waiting, rows = table.slice(whole).to_batches(), rows - whole
    if rows:
        yield from cut(pa.Table.from_batches(waiting, columns))


def cut(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Contiguous batches of 8,192 rows."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        for whole in table.slice(start, BATCH_ROWS).combine_chunks().to_batches():
            yield from split(whole)


def split(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of at most 8,192 rows and 64 MB (or one row), by content alone."""
    if batch.num_rows > BATCH_ROWS:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from split(batch.slice(start, BATCH_ROWS))
    elif batch.nbytes > BATCH_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from split(batch.slice(0, half))
        yield from split(batch.slice(half))
    else:
        yield batch
