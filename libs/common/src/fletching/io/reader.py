"""The inputs of a tool as one sequence of checked batches in canonical types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow.types import is_null

from fletching import lineage
from fletching.column_mapping import ColumnMapping
from fletching.errors import InputError
from fletching.io.blocks import cut, rechunk, split
from fletching.io.lookalikes import refuse, unread_lookalikes
from fletching.io.opening import open_as, open_formatted, open_rows, open_sniffed
from fletching.io.row_formats.formatted_rows import FormattedRows
from fletching.io.sources import Source, resolve, unread_entries
from fletching.lineage import Node
from fletching.protocols import Noted, RowSource
from fletching.report import Report
from fletching.schema import Schema

__all__ = ["Reader", "cut", "open_rows", "open_sniffed", "rechunk", "split"]

MAX_SHOWN = 5  # names of files that a note lists


class Reader:
    """Rows of one schema from files, folders, globs, URLs or stdin.

    Iterating gives record batches of at most 8,192 rows and 64 MB with the columns of `columns`;
    every promise of the schema holds for them. Rows count as `rows_in` of the report unless
    `count=False` (side inputs). Several inputs are read in order; a column that one of them lacks
    is null there.

    schema: names of schemas, or schemas, where a tool reads more aliases. Of several, the stamp of
    the first input decides, else the first whose required columns it has; `schema.name` tells
    which.
    checked: False for tools that look at rows: those that break a promise are given too.
    limit: read only the first rows. lineage_nodes, ends: of the inputs, what is known at the start
    and, after reading, at the end. lookalikes: columns that look like known ones and are not read.
    trains: refuse a lookalike that may say which texts are positives.

    Rows in the layout of another program (`fletching.io.row_formats`) are converted.

    Raises InputError where an input is damaged, cut, of another schema or breaks a promise.
    """

    def __init__(
        self,
        report: Report,
        inputs: Sequence[str],
        schema: str | Sequence[str | Schema],
        *,
        limit: int | None = None,
        count: bool = True,
        checked: bool = True,
        trains: bool = False,
    ) -> None:
        self.report, self.limit, self.count, self.checked = report, limit, count, checked
        self.sources = resolve(inputs)
        self.ends: list[Node] = []
        self.rows = 0
        first, *others = self.sources
        schemas = [schema] if isinstance(schema, str) else schema
        self.opened, self.schema = open_as(first, schemas, limit)
        self.mapping: ColumnMapping | None = None  # the latest: the files of a folder are alike
        self.noted: set[str] = set()
        self._note_unread_entries(inputs)
        self._note_format(self.opened)
        mappings = [self._map(self.opened)]
        # The columns of all inputs are read first: the last file alone may have one of them.
        self.lineage_nodes = [self.opened.lineage_node]
        for source in others:
            other = self._open(source)
            mappings.append(self._map(other))
            self.lineage_nodes.append(other.lineage_node)
        self.columns = self._union([mapping.columns for mapping in mappings])
        self.renamed: dict[str, str] = {}  # our column: the input's
        for mapping in mappings:
            self.renamed |= mapping.renamed
        for ours, theirs in self.renamed.items():
            self._note(f"reading column `{theirs}` as `{ours}`")
        self.lookalikes = unread_lookalikes(self.schema, self.columns)
        if trains:
            refuse(self.sources[0].where, self.lookalikes)
        for lookalike in self.lookalikes:
            report.note(f"column `{lookalike.name}` is not read, though it looks like one that is")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Batches whose boundaries depend on the rows alone, not on files, chunks or timing."""
        for batch in rechunk(self._rows(), self.columns):
            if self.count:
                self.report.rows_in += batch.num_rows
            yield batch

    def read_all(self) -> pa.Table:
        """All rows in memory."""
        return pa.Table.from_batches(self, schema=self.columns)

    def _open(self, source: Source) -> RowSource:
        opened = open_formatted(source, self.schema, self.limit)
        self._note_format(opened)
        return opened

    def _note_format(self, opened: RowSource) -> None:
        """Say once what the rows of another program were taken for."""
        if isinstance(opened, FormattedRows):
            row_format = opened.row_format
            self._note(
                f"{opened.where} holds rows of {row_format.name} ({row_format.summary}): "
                f"reading {row_format.becomes}",
                key=row_format.name,
            )
        if isinstance(opened, Noted):
            for note in opened.notes:
                self._note(note)

    def _note_unread_entries(self, inputs: Sequence[str]) -> None:
        for name in inputs:
            unread = unread_entries(name)
            if unread:
                shown = ", ".join(unread[:MAX_SHOWN])
                more = f" and {len(unread) - MAX_SHOWN:,} more" if len(unread) > MAX_SHOWN else ""
                self._note(f"in {name}, these are not read: {shown}{more}")

    def _note(self, text: str, key: str = "") -> None:
        if (key or text) not in self.noted:
            self.noted.add(key or text)
            self.report.note(text)

    def _rows(self) -> Iterator[pa.RecordBatch]:
        for number, source in enumerate(self.sources):
            opened = self.opened if number == 0 else self._open(source)
            for batch in self._mapped_batches(opened):
                if self.limit is not None:
                    batch = batch.slice(0, self.limit - self.rows)
                self.rows += batch.num_rows
                yield batch
                if self.rows == self.limit:
                    return
            self._note_format(opened)  # what was not known before the rows were read
            self.ends += opened.ends

    def _mapped_batches(self, opened: RowSource) -> Iterator[pa.RecordBatch]:
        """Batches with our columns, small enough for 32-bit string offsets."""
        mapping, mapped_schema = self._map(opened), opened.schema
        row = 1
        for schema, batch in opened.batches():
            if schema is not mapped_schema:  # the next of several concatenated streams may differ
                mapping, mapped_schema = self._map(opened), schema
                self._check_no_new_column(mapping, rows=row - 1)
            for part in split(batch):
                if self.checked:
                    yield mapping.apply(part, self.columns, row)
                else:
                    yield mapping.convert(part, self.columns)
                row += part.num_rows

    def _check_no_new_column(self, mapping: ColumnMapping, *, rows: int) -> None:
        known = set(self.columns.names)
        new = [name for name in mapping.columns.names if name not in known]
        if new:
            what = f"{mapping.where}: column `{new[0]}` first appears after {rows:,} rows"
            raise InputError(what, "concatenate streams with the same columns, or name the files")

    def _map(self, opened: RowSource) -> ColumnMapping:
        self._check_version(opened)
        if self.mapping is None or self.mapping.input_columns != opened.schema:
            self.mapping = ColumnMapping(self.schema, opened.schema, opened.where)
        return self.mapping.of_input(opened.where)

    def _check_version(self, opened: RowSource) -> None:
        stamp = lineage.read(opened.schema.metadata)
        name = stamp.get("schema", self.schema.name)
        version = str(stamp.get("version", self.schema.version))
        if name != self.schema.name:
            what = f"{opened.where} holds {name}, and {self.schema.name} are read here"
            raise InputError(what, f"give it a file of {self.schema.name}")
        if version.split(".")[0] != self.schema.major:
            what = f"{opened.where} is {name} {version}, and {self.schema.version} is read here"
            raise InputError(what, "use tools of the same major version")

    def _union(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        """The columns of all inputs: known ones in our order, then unknown ones in theirs."""
        columns: dict[str, pa.Field] = {}
        for source, schema in zip(self.sources, schemas):
            for field in schema:
                earlier = columns.setdefault(field.name, field)
                if is_null(earlier.type):
                    columns[field.name] = field
                elif not is_null(field.type) and field.type != earlier.type:
                    types = f"is {field.type}, but {earlier.type} in an input before"
                    what = f"{source.where}: column `{field.name}` {types}"
                    raise InputError(what, "give the column one type in all inputs")
        known = [columns.pop(field.name) for field in self.schema.fields if field.name in columns]
        return pa.schema([*known, *columns.values()])
