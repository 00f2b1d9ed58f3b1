"""Pairs of sentences with a score or a label, from CSV, TSV, JSONL, Parquet or Arrow files.

CSV and TSV are parsed here, since they may lack a header; every other format is read by
fletching.io.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

from fletching.errors import InputError
from fletching.io.formats import INPUT_FORMATS, TEXT, without_compression
from fletching.io.reader import open_rows
from fletching.io.sources import Source, sniff
from fletching.report import Report
from fletching.schema import Schema

DELIMITED = (".csv", ".tsv")
FIRST = ("sentence1", "text1", "query")
SECOND = ("sentence2", "text2", "document")
LABEL = ("score", "label", "labels", "similarity_score", "cos_sim")
ANY_COLUMNS = Schema(
    name="sentence pairs", version="1.0", description="Any table.", fields=()
)  # no column has a fixed type


class PairRow(NamedTuple):
    """One row as read: where it is in the file, two sentences and the score."""

    where: str
    first: Any
    second: Any
    label: Any


@dataclass(frozen=True, kw_only=True)
class SentencePairs:
    """n pairs as aligned columns: two sentences and their score or label."""

    name: str
    split: str
    first: list[str]
    second: list[str]
    labels: list[float]

    def digest(self) -> str:
        """xxh3-128 of the content."""
        content = (self.first, self.second, self.labels)
        return xxhash.xxh3_128_hexdigest(repr(content).encode())


def read_pairs(
    report: Report, name: str, path: str, *, labelled: bool, split: str = "test"
) -> SentencePairs:
    """The pairs of a file; without a header the columns are sentence1, sentence2, score.

    labelled: the third column is 0 or 1; else any number. Raises InputError, with the row, for a
    missing sentence, another value, or fewer than two different scores.
    """
    first: list[str] = []
    second: list[str] = []
    labels: list[float] = []
    for row in _read_rows(path):
        where = f"{path}, {row.where}"
        labels.append(_parse_label(row.label, where, labelled=labelled))
        if not (isinstance(row.first, str) and isinstance(row.second, str)):
            raise InputError(f"{where}: a sentence is missing", "drop the row")
        first.append(row.first)
        second.append(row.second)
    report.rows_in += len(labels)
    if len(set(labels)) < 2:
        raise InputError(
            f"{path} holds {len(labels)} pairs with {len(set(labels))} different scores",
            "give at least two different ones",
        )
    return SentencePairs(name=name, split=split, first=first, second=second, labels=labels)


def _parse_label(label: str | float | None, where: str, *, labelled: bool) -> float:
    try:
        number = float(label)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: the score {label!r} is not a number",
            "correct the row or the column order",
        ) from None
    if labelled and number not in (0, 1):
        raise InputError(f"{where}: the label is {label}", "write 0 or 1")
    if not math.isfinite(number):
        raise InputError(f"{where}: the score is {label}", "write a finite number")
    return number


def _read_rows(path: str) -> Iterator[PairRow]:
    """The rows of a file: its format is known by its content, of text by its extension."""
    source = Source(path, path)
    kind, stream = sniff(source.open(), path)
    stem = without_compression(path)
    if kind != TEXT or (_is_registered(stem) and not stem.endswith(DELIMITED)):
        stream.close()
        yield from _read_table(source)
        return
    try:
        text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error})", "convert it to UTF-8") from None
    finally:
        stream.close()
    yield from _parse_delimited(path, text, "\t" if stem.endswith(".tsv") else ",")


def _is_registered(path: str) -> bool:
    """Is it a text format of fletching.io, by its extension?"""
    formats = [entry for entry in INPUT_FORMATS.values() if not entry.magic]
    return any(path.endswith(entry.extensions) for entry in formats)


def _read_table(source: Source) -> Iterator[PairRow]:
    """The rows of a format with column names."""
    opened = open_rows(source, ANY_COLUMNS)
    if not opened.schema.names:  # an empty JSONL
        return
    names = _pick_columns(source.where, opened.schema.names)
    number = 0
    for _, batch in opened.batches():
        columns = [batch[name].to_pylist() for name in names]
        for first, second, label in zip(*columns):
            number += 1
            yield PairRow(where=f"row {number:,}", first=first, second=second, label=label)


def _parse_delimited(path: str, text: str, delimiter: str) -> Iterator[PairRow]:
    """The rows of a CSV or TSV."""
    positions = [0, 1, 2]
    for number, cells in enumerate(_split_cells(text, delimiter), 1):
        if number == 1 and _is_header(cells):
            positions = [cells.index(name) for name in _pick_columns(path, cells)]
            continue
        if not cells:  # a blank line
            continue
        width = max(positions) + 1
        if len(cells) < width:
            raise InputError(
                f"{path}, row {number:,}: {len(cells)} fields instead of {width}: {cells!r:.60}",
                "check the delimiter: .csv is comma, .tsv is tab",
            )
        first, second, label = (cells[position] for position in positions)
        yield PairRow(where=f"row {number:,}", first=first, second=second, label=label)


def _split_cells(text: str, delimiter: str) -> Iterator[list[str]]:
    lines = io.StringIO(text, newline="")
    if delimiter == "\t":  # TSV quotes nothing: a quotation mark is part of the sentence
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(lines)


def _is_header(cells: Sequence[str]) -> bool:
    """Does the first row name columns? Then its last cell is no number."""
    known = {*FIRST, *SECOND, *LABEL}
    names = {cell.lower() for cell in cells}
    return bool(cells) and not _is_number(cells[-1]) and not known.isdisjoint(names)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _pick_columns(path: str, names: Sequence[str]) -> list[str]:
    """The columns of the two sentences and the score, whatever the case of their names."""
    by_lower_case = {name.lower(): name for name in names}
    columns = []
    for aliases in (FIRST, SECOND, LABEL):
        present = [by_lower_case[alias] for alias in aliases if alias in by_lower_case]
        if not present:
            raise InputError(
                f"{os.path.basename(path)} has the columns {', '.join(names)}",
                "name them sentence1, sentence2, score (or label)",
            )
        columns.append(present[0])
    return columns
