"""CSV and its dialects, block by block, every cell exactly as written."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from fletching.column_names import first_repeated
from fletching.errors import InputError
from fletching.io.tables.bad_rows import NAMED, BadRows
from fletching.io.tables.dialect import ONE_BYTE_DELIMITER, Dialect
from fletching.io.tables.registry import TABLE_FORMATS, DetectedBy, TableFormat
from fletching.io.tables.table_input import TableInput
from fletching.io.tables.utf8_stream import UNDECODABLE, Substitution, Utf8Stream
from fletching.protocols import Lineage

EXTENSIONS = (".csv", ".tsv", ".tab")
BLOCK = 8 << 20  # bytes; no row of a CSV may be longer than this


class DelimitedTable:
    """The rows of one CSV: batches of the columns that are read, as far as the file has them."""

    lineage_node = None

    def __init__(self, table: TableInput, dialect: Dialect) -> None:
        self.options = table.options
        self.report = table.report
        self.where = table.where
        self.dialect = dialect
        self.utf8 = _open_utf8(table, dialect)
        self.file = io.BufferedReader(self.utf8, BLOCK)
        head = self.file.peek(1).decode(errors="ignore")
        self.delimiter = dialect.delimiter or dialect.detect_delimiter(head)
        self.names = list(self.options.columns) or dialect.header(head, self.delimiter, self.where)
        if not self.options.columns:
            self._check_header()
        columns = self.names if table.columns is None else table.columns
        self.wanted = [name for name in self.names if name in columns]
        self.parsed = self._columns_to_parse()
        self.bad_rows = BadRows(self.options, self.report)
        self.invalid_rows: list[arrow_csv.InvalidRow] = []

    @property
    def columns(self) -> list[str] | None:
        """The names of the header, or of --columns."""
        return self.names

    @property
    def ends(self) -> list[Lineage]:
        """The digest of the file."""
        return [self.utf8.end]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The wanted columns of all rows. Raises InputError on rows that cannot be read."""
        reader = self._reader()
        rejected = 0
        last_batch = None
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except pa.ArrowInvalid as error:
                raise self._explained(error) from None
            self._reject(self.invalid_rows[rejected:])
            rejected = len(self.invalid_rows)
            if batch.num_rows:
                last_batch = batch
            yield self._restored(self._without_undecodable(batch).select(self.wanted))
        self._reject(self.invalid_rows[rejected:])
        self._refuse_open_quote(last_batch)
        self._report_undecodable_lines()

    # --- parsing ---

    def _check_header(self) -> None:
        repeated = first_repeated(self.names)
        if repeated is not None:
            raise InputError(
                f"{self.where}: the header has the column `{repeated}` twice",
                "rename one of them; `csv2pairs --columns` names those of a table without header",
            )

    def _columns_to_parse(self) -> list[str]:
        if self.utf8.marks_undecodable:  # marks may lie in any column
            return self.names
        last = self.names[-1:]  # an open quote swallows the rest of the file into the last column
        parsed = {*self.wanted, *last}
        return [name for name in self.names if name in parsed]

    def _reader(self) -> pa.RecordBatchReader:
        quote = self.dialect.quote or False
        escape = self.dialect.escape or False
        try:
            return arrow_csv.open_csv(
                pa.PythonFile(self.file, mode="r"),
                read_options=arrow_csv.ReadOptions(
                    block_size=BLOCK,
                    skip_rows_after_names=0 if self.options.columns else 1,
                    column_names=self.names,
                    use_threads=False,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.delimiter,
                    quote_char=quote,
                    escape_char=escape,
                    newlines_in_values=bool(quote or escape),
                    invalid_row_handler=self._collect_invalid,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types={name: pa.string() for name in self.names},
                    include_columns=self.parsed,
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):  # a header and nothing else
                columns = pa.schema([(name, pa.string()) for name in self.parsed])
                return pa.RecordBatchReader.from_batches(columns, [])
            raise self._explained(error) from None

    def _collect_invalid(self, row: arrow_csv.InvalidRow) -> str:
        self.invalid_rows.append(row)
        return "skip"

    def _explained(self, error: pa.ArrowInvalid) -> InputError:
        if "straddling" in str(error):
            return InputError(
                f"{self.where}: a row is longer than {BLOCK >> 20} MB, or a quote never closes",
                "correct the quotes, or read them as letters: --quote none",
            )
        return InputError(
            f"{self.where}: not a valid CSV ({error})",
            "check --delimiter, --quote and --encoding",
        )

    def _restored(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with a delimiter of several bytes back in its cells."""
        delimiter = self.dialect.long_delimiter
        if delimiter is None:
            return batch
        cells = [
            pc.replace_substring(column, ONE_BYTE_DELIMITER, delimiter) for column in batch.columns
        ]
        return pa.RecordBatch.from_arrays(cells, schema=batch.schema)

    # --- rows that cannot be read ---

    def _reject(self, rows: Sequence[arrow_csv.InvalidRow]) -> None:
        """Rows with the wrong number of cells."""
        header_lines = 0 if self.options.columns else 1
        for row in rows:
            what = (
                f"{self.where}, row {row.number - header_lines:,}: {row.actual_columns} cells "
                f"instead of {row.expected_columns}: {row.text[:60]}"
            )
            undecodable = UNDECODABLE in row.text
            reason = "undecodable" if undecodable else "with the wrong number of cells"
            self.bad_rows.reject(what, reason, fix="quote the cell")

    def _without_undecodable(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self.utf8.undecodable_lines:
            return batch
        first, *others = (pc.match_substring(column, UNDECODABLE) for column in batch.columns)
        keep = pc.invert(first)
        for is_marked in others:
            keep = pc.and_not(keep, is_marked)
        kept = batch.filter(keep)
        dropped = batch.num_rows - kept.num_rows
        self.report.rows_in += dropped
        self.report.drop("undecodable", dropped)
        return kept

    def _report_undecodable_lines(self) -> None:
        lines = self.utf8.undecodable_lines
        if not lines:
            return
        shown = ", ".join(f"{line:,}" for line in lines[:NAMED])
        more = f" and {len(lines) - NAMED:,} more" if len(lines) > NAMED else ""
        self.report.note(f"{self.where}: not {self.utf8.encoding} in line {shown}{more}; dropped")
        by_file = self.report.measures.setdefault("undecodable_lines", {})
        by_file[self.where] = lines

    def _refuse_open_quote(self, last_batch: pa.RecordBatch | None) -> None:
        """A quote that never closes swallows the rest of the file, which Arrow takes for a cell.

        The number of quotes is odd then, and the last cell or the last bad row, which holds a
        quote, ends as the file does.
        """
        quote = self.dialect.quote
        if not quote or self.dialect.escape or self.utf8.quote_count % 2 == 0:
            return
        file_end = self.utf8.tail.rstrip(b"\r\n")
        for text in self._last_texts(last_batch):
            content = text.encode()
            end = text.rstrip("\r\n").encode()[-len(self.utf8.tail) // 2 :]
            if end and quote.encode() in content and file_end.endswith(end):
                raise InputError(
                    f"{self.where}: a quote near the end of the file never closes",
                    "close it, or read quotes as letters: --quote none",
                )

    def _last_texts(self, last_batch: pa.RecordBatch | None) -> list[str]:
        """What may have swallowed the rest of the file, as it was written."""
        texts = [row.text for row in self.invalid_rows[-1:]]
        if last_batch is not None and last_batch.schema.names[-1] == self.names[-1]:
            cell = last_batch.column(last_batch.num_columns - 1)[-1].as_py()
            if cell:
                quote = self.dialect.quote
                texts.append(quote + cell.replace(quote, quote * 2))
        return texts


def _open_utf8(table: TableInput, dialect: Dialect) -> Utf8Stream:
    substitution = None
    if dialect.long_delimiter is not None:
        substitution = Substitution(dialect.long_delimiter, ONE_BYTE_DELIMITER)
    return table.utf8(substitution=substitution, quote=dialect.quote)


def is_declared(table: TableInput) -> bool:
    """Do its name or the options say that it is a CSV, whatever it begins with?"""
    options = table.options
    return table.is_named(EXTENSIONS) or bool(options.columns) or bool(options.delimiter)


def is_text(table: TableInput) -> bool:
    """Any text may be a CSV."""
    return not table.is_empty


def open_delimited(table: TableInput) -> DelimitedTable:
    """A CSV in the dialect of the options."""
    return DelimitedTable(table, Dialect.from_options(table.options))


TABLE_FORMATS.register(
    "CSV",
    TableFormat(
        extensions=EXTENSIONS,
        detected_by=DetectedBy.DEFAULT,
        matches=is_text,
        open=open_delimited,
    ),
)
