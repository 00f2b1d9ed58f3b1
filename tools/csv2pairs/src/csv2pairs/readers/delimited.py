"""CSV and its dialects, block by block, every cell exactly as written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from csv2pairs.options import Options
from csv2pairs.readers.encoding import BAD, Utf8
from fletching.errors import InputError, UsageError
from fletching.report import Report

BLOCK = 8 << 20  # no row of a CSV may be longer than this
DELIMITERS = ",;\t|"
STAND_IN = "\x1f"  # for a delimiter of several bytes while Arrow parses; put back in the cells
NAMED_LINES = 5  # how many dropped lines are told one by one


class Dialect:
    """How the cells of a table are told apart."""

    def __init__(self, options: Options) -> None:
        given = options.delimiter.replace("\\t", "\t") if options.delimiter else None
        self.long = given if given and len(given.encode()) > 1 else None
        self.delimiter = STAND_IN if self.long else given
        self.quote = "" if options.quote == "none" else options.quote
        self.escape = options.escape
        for name, value in (("--quote", self.quote), ("--escape", self.escape or "")):
            if len(value.encode()) > 1:
                raise UsageError(
                    f"{name} {value} is not one ASCII character",
                    "pass one character, or --quote none",
                )
        if given is not None and (
            given == "" or given in (self.quote, self.escape) or "\n" in given or "\r" in given
        ):
            raise UsageError(
                f"--delimiter {given!r} cannot tell cells apart",
                r"pass a character or a short text, e.g. --delimiter ';' or --delimiter '\t'",
            )


class Cells:
    """The rows of one CSV: batches of the columns `wanted`, as far as the file has them."""

    def __init__(
        self, utf8: Utf8, dialect: Dialect, wanted: Sequence[str], options: Options, report: Report
    ) -> None:
        self.utf8, self.where, self.options, self.report = utf8, utf8.where, options, report
        self.file = io.BufferedReader(utf8, BLOCK)
        self.dialect = dialect
        self.delimiter = dialect.delimiter or self._delimiter()
        self.names = list(options.columns) or self._header()
        last = self.names[-1:]  # a quote that never closes ends in the last column
        self.read = (
            self.names if utf8.mark else [name for name in self.names if name in {*wanted, *last}]
        )
        self.wanted = [name for name in self.names if name in wanted]
        self.bad: list[arrow_csv.InvalidRow] = []
        self.told = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        reader = self._reader()
        seen, last = 0, None
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except pa.ArrowInvalid as error:
                raise self._invalid(error) from None
            self._refuse_bad_rows(seen)
            seen = len(self.bad)
            last = batch if batch.num_rows else last
            yield self._put_back(self._decodable(batch).select(self.wanted))
        self._refuse_bad_rows(seen)
        self._refuse_open_quote(last)
        if self.utf8.bad_lines:
            shown = ", ".join(f"{line:,}" for line in self.utf8.bad_lines[:NAMED_LINES])
            more = (
                f" and {len(self.utf8.bad_lines) - NAMED_LINES:,} more"
                if len(self.utf8.bad_lines) > NAMED_LINES
                else ""
            )
            self.report.note(
                f"{self.where}: not {self.utf8.name.removesuffix('-sig')} in line {shown}{more}; dropped"
            )
            self.report.measures.setdefault("undecodable_lines", {})[self.where] = (
                self.utf8.bad_lines
            )

    def _reader(self) -> Any:
        def invalid(row: arrow_csv.InvalidRow) -> str:
            self.bad.append(row)
            return "skip"

        skipped = 0 if self.options.columns else 1
        quote, escape = self.dialect.quote or False, self.dialect.escape or False
        try:
            return arrow_csv.open_csv(
                self.file,
                read_options=arrow_csv.ReadOptions(
                    block_size=BLOCK,
                    skip_rows_after_names=skipped,
                    column_names=self.names,
                    use_threads=False,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.delimiter,
                    quote_char=quote,
                    escape_char=escape,
                    newlines_in_values=bool(quote or escape),
                    invalid_row_handler=invalid,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types={name: pa.string() for name in self.names},
                    include_columns=self.read,
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):  # a header and nothing else
                return pa.RecordBatchReader.from_batches(
                    pa.schema([(name, pa.string()) for name in self.read]), []
                )
            raise self._invalid(error) from None

    def _invalid(self, error: Exception) -> InputError:
        if "straddling" in str(error):
            return InputError(
                f"{self.where}: a row is longer than {BLOCK >> 20} MB, or a quote never closes",
                "correct the quotes, or read them as letters: --quote none",
            )
        return InputError(
            f"{self.where}: no valid CSV ({error})", "check --delimiter, --quote and --encoding"
        )

    def _decodable(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self.utf8.bad_lines:
            return batch
        wrong = [pc.match_substring(column, BAD) for column in batch.columns]
        keep = pc.invert(wrong[0])
        for other in wrong[1:]:
            keep = pc.and_not(keep, other)
        kept = batch.filter(keep)
        self.report.rows_in += batch.num_rows - kept.num_rows
        self.report.drop("undecodable", batch.num_rows - kept.num_rows)
        return kept

    def _put_back(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self.dialect.long:
            return batch
        cells = [
            pc.replace_substring(column, STAND_IN, self.dialect.long) for column in batch.columns
        ]
        return pa.RecordBatch.from_arrays(cells, schema=batch.schema)

    def _refuse_bad_rows(self, seen: int) -> None:
        for row in self.bad[seen:]:
            what = f"{self.where}, row {row.number - (not self.options.columns):,}: {row.actual_columns} cells instead of {row.expected_columns}: {row.text[:60]}"
            if self.options.bad_rows == "refuse":
                raise InputError(what, "quote the cell, or leave such rows out by --bad-rows drop")
            self.report.rows_in += 1
            self.report.drop("undecodable" if BAD in row.text else "with the wrong number of cells")
            self.told += 1
            if self.told <= NAMED_LINES:
                self.report.note(f"dropped {what}")

    def _refuse_open_quote(self, last: pa.RecordBatch | None) -> None:
        """A quote without its end swallows the rest of the file, which Arrow takes for one cell."""
        quote = self.dialect.quote
        if not quote or self.dialect.escape or self.utf8.quotes % 2 == 0:
            return
        swallowed = [row.text for row in self.bad[-1:]]
        if last is not None and last.schema.names[-1] == self.names[-1]:
            cell = last.column(last.num_columns - 1)[-1].as_py()
            swallowed.append(quote + cell.replace(quote, quote * 2) if cell else "")
        ends = [text.rstrip("\r\n").encode()[-len(self.utf8.tail) // 2 :] for text in swallowed]
        if any(
            end and quote.encode() in text.encode() and self.utf8.tail.rstrip(b"\r\n").endswith(end)
            for end, text in zip(ends, swallowed)
        ):
            raise InputError(
                f"{self.where}: a quote near the end of the file never closes",
                "close it, or read quotes as letters: --quote none",
            )

    def _head(self) -> str:
        return self.file.peek(1).decode(errors="ignore")

    def _delimiter(self) -> str:
        """The delimiter that stands most often in the first row, outside quotes."""
        quote = self.dialect.quote or "\n"
        outside, inside = [], False
        for number, piece in enumerate(self._head().split(quote)):
            inside = bool(number % 2)
            if not inside:
                line = re.split(r"[\r\n]", piece, maxsplit=1)
                outside.append(line[0])
                if len(line) > 1 or not self.dialect.quote:
                    break
        first = "".join(outside)
        return max(DELIMITERS, key=first.count)

    def _header(self) -> list[str]:
        """The names of the header line, left unread."""
        quoting: Any = csv.QUOTE_MINIMAL if self.dialect.quote else csv.QUOTE_NONE
        rows = csv.reader(
            io.StringIO(self._head(), newline=""),
            delimiter=self.delimiter,
            quotechar=self.dialect.quote or None,
            escapechar=self.dialect.escape,
            quoting=quoting,
        )
        names = next((row for row in rows if row), [])
        if self.dialect.long:
            names = [name.replace(STAND_IN, self.dialect.long) for name in names]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"{self.where}: the header has the column `{twice}` twice",
                "rename one of them, or name all columns by --columns",
            )
        return names
