"""Pairs of sentences with a score or a label, from CSV, TSV, JSONL or Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from fletching.errors import InputError
from fletching.report import Report

FIRST = ("sentence1", "text1", "query")
SECOND = ("sentence2", "text2", "document")
Row = tuple[str, Any, Any, Any]  # where it stands, first, second, label
LABEL = ("score", "label", "labels", "similarity_score", "cos_sim")


@dataclass(frozen=True)
class Pairs:
    """Aligned columns: two texts and what is known of their likeness."""

    name: str
    split: str
    first: list[str]
    second: list[str]
    labels: list[float]

    def digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(repr((self.first, self.second, self.labels)).encode())


def read(report: Report, name: str, path: str, *, labelled: bool, split: str = "test") -> Pairs:
    """The pairs of a file. A CSV or TSV may lack the header; then the columns are first, second, score.

    labelled: the third column must be 0 or 1, both present; else any two different numbers will do.
    """
    first, second, labels = [], [], []
    for where, one, two, label in _rows(path):
        try:
            number = float(label)
        except (TypeError, ValueError):
            raise InputError(
                f"{path}, {where}: the score {label!r} is no number",
                "correct the row or the column order",
            ) from None
        if not math.isfinite(number) or (labelled and number not in (0, 1)):
            raise InputError(
                f"{path}, {where}: the {'label' if labelled else 'score'} is {label}",
                "write 0 or 1" if labelled else "write a number",
            )
        if not (isinstance(one, str) and isinstance(two, str)):
            raise InputError(f"{path}, {where}: a sentence is missing", "drop the row")
        first.append(one)
        second.append(two)
        labels.append(number)
    report.rows_in += len(labels)
    if len(set(labels)) < 2:
        raise InputError(
            f"{path} holds {len(labels)} pairs with {len(set(labels))} different scores",
            "give at least two different ones",
        )
    return Pairs(name, split, first, second, labels)


def _rows(path: str) -> Iterable[Row]:
    """(where, first, second, label) of each row."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    if content[:4] == b"PAR1":
        yield from _parquet(path, content)
        return
    try:
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode(
            "utf-8-sig"
        )
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise InputError(f"{path} is no UTF-8 text ({error})", "convert it to UTF-8") from None
    stem = path.removesuffix(".gz")
    yield from (
        _json_lines(path, text)
        if stem.endswith((".jsonl", ".ndjson"))
        else _delimited(path, text, "\t" if stem.endswith(".tsv") else ",")
    )


def _parquet(path: str, content: bytes) -> Iterable[Row]:
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is no complete Parquet file ({error})", "make the file again"
        ) from None
    names = _find(path, table.column_names)
    columns = [table[name].to_pylist() for name in names]
    yield from ((f"row {number:,}", *row) for number, row in enumerate(zip(*columns), 1))


def _json_lines(path: str, text: str) -> Iterable[Row]:
    names: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number:,}: no JSON ({error})", "each line must be one JSON object"
            ) from None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {number:,}: no JSON object", "each line must be one JSON object"
            )
        names = names or _find(path, list(row))
        one, two, label = (row.get(name) for name in names)
        yield f"line {number:,}", one, two, label


def _table(text: str, delimiter: str) -> Iterator[list[str]]:
    lines = io.StringIO(text, newline="")
    if delimiter == "\t":  # nothing is quoted there: a quotation mark is part of the sentence
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(lines)


def _delimited(path: str, text: str, delimiter: str) -> Iterable[Row]:
    places = [0, 1, 2]
    for number, row in enumerate(_table(text, delimiter), 1):
        if (
            number == 1
            and not _is_number(row[-1:])
            and set(map(str.lower, row)) & {*FIRST, *SECOND, *LABEL}
        ):
            places = [row.index(name) for name in _find(path, row)]
        elif row and len(row) <= max(places):
            raise InputError(
                f"{path}, row {number:,}: {len(row)} fields instead of {max(places) + 1}: {row!r:.60}",
                "check the delimiter: .csv is comma, .tsv is tab",
            )
        elif row:
            one, two, label = (row[place] for place in places)
            yield f"row {number:,}", one, two, label


def _is_number(fields: list[str]) -> bool:
    try:
        return bool(fields) and math.isfinite(float(fields[0]))
    except ValueError:
        return False


def _find(path: str, names: list[str]) -> list[str]:
    """The three columns under the names that the field uses."""
    lower = {name.lower(): name for name in names}
    found = [
        next((lower[name] for name in group if name in lower), None)
        for group in (FIRST, SECOND, LABEL)
    ]
    if None in found:
        raise InputError(
            f"{os.path.basename(path)} has the columns {', '.join(names)}",
            "name them sentence1, sentence2, score (or label)",
        )
    return [name for name in found if name is not None]
