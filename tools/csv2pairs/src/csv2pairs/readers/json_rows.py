"""JSON lines and JSON arrays of objects as cells of text; lists are joined by one blank."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from csv2pairs.options import Options
from csv2pairs.readers.encoding import BAD, Utf8
from fletching.errors import InputError, UsageError
from fletching.report import Report

ROWS = 8192
LONGEST = 64 << 20  # characters of one object in an array
BETWEEN = re.compile(r"[\s,]*")
# Numbers stay as they are written: 1.10 is not 1.1, and an id of 20 digits is no float.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


class Objects:
    """The rows of one file of objects: batches of the columns `wanted`, null where an object has none.

    joined: counts, by column, the cells that were lists of several items.
    """

    def __init__(
        self,
        utf8: Utf8,
        wanted: Sequence[str],
        options: Options,
        report: Report,
        joined: Counter[str],
    ) -> None:
        self.utf8, self.where, self.options, self.report = utf8, utf8.where, options, report
        self.wanted = list(wanted)
        self.names: dict[str, None] = {}  # all keys seen, in order
        self.joined = joined
        self.told = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([(name, pa.string()) for name in self.wanted])
        rows = self._rows()
        while block := list(itertools.islice(rows, ROWS)):
            columns = list(zip(*block)) if self.wanted else []
            yield pa.RecordBatch.from_arrays(
                [pa.array(column, pa.string()) for column in columns], schema=schema
            )

    def _rows(self) -> Iterator[list[str | None]]:
        text = io.TextIOWrapper(io.BufferedReader(self.utf8, 1 << 20), "utf-8", newline="\n")
        start = text.read(1)
        while start.isspace():
            start = text.read(1)
        values = self._items(text) if start == "[" else self._lines(text, start)
        for where, value in values:
            if not isinstance(value, dict):
                self._bad(
                    f"{self.where}, {where}: no JSON object: {str(value)[:60]}",
                    "that are no JSON object",
                )
                continue
            self.names.update(dict.fromkeys(value))
            try:
                row = [_text(value.get(name)) for name in self.wanted]
            except (TypeError, UnicodeEncodeError) as error:
                self._bad(f"{self.where}, {where}: {error}", "that are no JSON object")
                continue
            self.joined.update(
                name
                for name in self.wanted
                if isinstance(cell := value.get(name), list) and len(cell) > 1
            )
            yield row

    def _lines(self, text: Any, start: str) -> Iterator[tuple[str, Any]]:
        first = (start + text.readline(),) if start else ()
        for number, line in enumerate(itertools.chain(first, text), 1):
            if not line or line.isspace():
                continue
            if BAD in line:
                self._bad(
                    f"{self.where}, line {number:,}: not {self.utf8.name.removesuffix('-sig')}",
                    "undecodable",
                )
                continue
            try:
                yield f"line {number:,}", DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                self._bad(
                    f"{self.where}, line {number:,}: no JSON ({error}): {line[:60].rstrip()}",
                    "that are no JSON object",
                )

    def _items(self, text: Any) -> Iterator[tuple[str, Any]]:
        """The items of an array, one after the other: the file need not fit into memory."""
        buffer, at, number, ended = "", 0, 0, False
        while True:
            at = BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
            if buffer[at : at + 1] == "]":
                return
            try:
                value, at = DECODER.raw_decode(buffer, at)
            except (ValueError, RecursionError) as error:
                if ended or len(buffer) - at > LONGEST:
                    raise InputError(
                        f"{self.where}, item {number + 1:,}: no JSON ({error})",
                        "correct the array, or write one object a line",
                    ) from None
                more = text.read(max(1 << 20, len(buffer) - at))
                buffer, at, ended = buffer[at:] + more, 0, not more
                continue
            number += 1
            yield f"item {number:,}", value

    def _bad(self, what: str, reason: str) -> None:
        if self.options.bad_rows == "refuse":
            raise InputError(what, "correct the row, or leave such rows out by --bad-rows drop")
        self.report.rows_in += 1
        self.report.drop(reason)
        self.told += 1
        if self.told <= 5:
            self.report.note(f"dropped {what}")

    def check_names(self, needed: Sequence[str]) -> None:
        """Usage where a column stands in no object of the file."""
        missing = [name for name in needed if name not in self.names]
        if self.names and missing:
            raise UsageError(*no_column(self.where, missing[0], list(self.names)))


def no_column(where: str, missing: str, names: list[str]) -> tuple[str, str]:
    shown = ", ".join(f"`{name}`" for name in names[:12]) + (
        f" and {len(names) - 12} more" if len(names) > 12 else ""
    )
    return (
        f"{where} has no column `{missing}`; it has {shown}",
        "name one of these, or name the columns of a table without header by --columns",
    )


def _text(value: Any) -> str | None:
    """A cell as text; TypeError for an object, UnicodeEncodeError for half a surrogate pair."""
    if value is None or isinstance(value, str):
        cell = value
    elif isinstance(value, bool):
        cell = "true" if value else "false"
    elif isinstance(value, list):
        cell = " ".join(text for text in map(_text, value) if text is not None)
    else:
        raise TypeError(f"a cell holds an object: {json.dumps(value)[:60]}")
    if cell is not None and not cell.isascii():
        cell.encode()
    return cell
