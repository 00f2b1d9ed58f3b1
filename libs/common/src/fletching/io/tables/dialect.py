"""CSV dialects: delimiter, quotes, escapes, and the header line."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Literal

from fletching.errors import InputError, UsageError
from fletching.io.tables.table_options import TableOptions

DELIMITERS = ",;\t|"
# Replaces a delimiter of several bytes while Arrow parses; in the cells it is replaced back.
ONE_BYTE_DELIMITER = "\x1f"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The dialect that the options select.

    delimiter: one byte; None: to be detected. long_delimiter: the one of several bytes that
    `delimiter` replaces. quote: "" for none.
    """

    delimiter: str | None
    long_delimiter: str | None
    quote: str
    escape: str | None

    @classmethod
    def from_options(cls, options: TableOptions) -> Dialect:
        """Raises UsageError where the options cannot tell cells apart."""
        quote = "" if options.quote == "none" else options.quote
        _check_one_byte("--quote", quote)
        _check_one_byte("--escape", options.escape or "")
        delimiter = None
        long_delimiter = None
        if options.delimiter:
            delimiter = options.delimiter.replace("\\t", "\t")
            _check_delimiter(delimiter, quote, options.escape)
            if len(delimiter.encode()) > 1:
                long_delimiter = delimiter
                delimiter = ONE_BYTE_DELIMITER
        return cls(
            delimiter=delimiter,
            long_delimiter=long_delimiter,
            quote=quote,
            escape=options.escape,
        )

    def detect_delimiter(self, head: str) -> str:
        """The delimiter that appears most often in the first row, outside quotes.

        head: the first characters of the file, at least its first row.
        """
        if not self.quote:
            return _most_frequent_delimiter(_first_line(head))
        first_row = ""
        for number, piece in enumerate(head.split(self.quote)):
            inside_quotes = number % 2 == 1
            if inside_quotes:
                continue
            line = _first_line(piece)
            first_row += line
            if line != piece:  # the row ends in this piece
                break
        return _most_frequent_delimiter(first_row)

    def header(self, head: str, delimiter: str, where: str) -> list[str]:
        """The cells of the first line that is not empty.

        where: the file, for the InputError of a cell of more than 128 kB.
        """
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        rows = csv.reader(
            io.StringIO(head, newline=""),
            delimiter=delimiter,
            quotechar=self.quote or None,
            escapechar=self.escape,
            quoting=quoting,
        )
        try:
            names = next((row for row in rows if row), [])
        except csv.Error as error:
            fix = "is it a table? A quote that is not closed is left alone by --quote none"
            raise InputError(f"{where}: the header cannot be read ({error})", fix) from None
        if self.long_delimiter is None:
            return names
        return [name.replace(ONE_BYTE_DELIMITER, self.long_delimiter) for name in names]


def _check_one_byte(option: str, value: str) -> None:
    if len(value.encode()) > 1:
        raise UsageError(
            f"{option} {value} is not one ASCII character", "pass one character, or --quote none"
        )


def _check_delimiter(delimiter: str, quote: str, escape: str | None) -> None:
    is_taken = delimiter in (quote, escape)
    if is_taken or "\n" in delimiter or "\r" in delimiter:
        raise UsageError(
            f"--delimiter {delimiter!r} cannot tell cells apart",
            r"pass a character or a short text, e.g. --delimiter ';' or --delimiter '\t'",
        )


def _first_line(text: str) -> str:
    return re.split(r"[\r\n]", text, maxsplit=1)[0]


def _most_frequent_delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count)
