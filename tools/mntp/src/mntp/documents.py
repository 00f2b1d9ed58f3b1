"""Texts as the tool reads them: rows of texts or examples, or plain text files whose lines survive."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from fletching import schema
from fletching.errors import InputError, UsageError
from fletching.io import Reader
from fletching.io.sources import resolve
from fletching.report import Report

PLAIN = (".txt",)
BATCH = 4096  # texts of plain files that travel together


class Documents:
    """Lists of texts, one list a row: a text or a file has one, an example its query and positives.

    steps: the lineage of what is read. lines: each line of a plain file is a text of its own.
    """

    def __init__(
        self,
        report: Report,
        inputs: Sequence[str],
        *,
        limit: int | None = None,
        lines: bool = False,
        count: bool = True,
    ) -> None:
        self.report, self.limit, self.lines, self.count = report, limit, lines, count
        self.files = plain_files(inputs)
        self.reader = (
            None
            if self.files
            else Reader(report, inputs, ["texts", "examples"], limit=limit, count=count)
        )
        if lines and self.reader:
            raise UsageError("--lines is for plain text files (.txt)", "leave it out")

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.reader.steps if self.reader else []

    def __iter__(self) -> Iterator[list[list[str]]]:
        if self.reader:
            of_rows = of_examples if self.reader.schema.name == "examples" else of_texts
            yield from map(of_rows, self.reader)
            return
        batch: list[list[str]] = []
        for number, text in enumerate(self._plain()):
            if number == self.limit:
                break
            self.report.rows_in += int(self.count)
            batch.append([text])
            if len(batch) == BATCH:
                yield batch
                batch = []
        yield batch

    def _plain(self) -> Iterator[str]:
        for path in self.files:
            if not self.lines:
                yield decoded(path, _content(path), 1)
                continue
            with open(path, "rb") as file:
                yield from (
                    decoded(path, line, number).rstrip("\r\n")
                    for number, line in enumerate(file, 1)
                )


def plain_files(inputs: Sequence[str]) -> list[str]:
    """The .txt files that the arguments name, or that their folders hold; [] where they are rows.

    Raises Usage where both stand together.
    """
    folders = [name for name in inputs if os.path.isdir(name)]
    of_folders = {
        name for name in folders if any(entry.endswith(PLAIN) for entry in os.listdir(name))
    }
    plain = [name for name in inputs if name in of_folders or name.endswith(PLAIN)]
    if not plain:
        return []
    if len(plain) < len(inputs):
        raise UsageError(
            "plain text files stand beside other inputs", "name .txt files alone, or rows alone"
        )
    return [source.path for source in resolve(plain, PLAIN) if source.path]


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None


def decoded(path: str, content: bytes, line: int) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line += content[: error.start].count(b"\n")
        raise InputError(
            f"{path}, line {line}: not UTF-8 ({error.reason})",
            "convert it: iconv -f latin1 -t utf-8",
        ) from None


def of_texts(batch: pa.RecordBatch) -> list[list[str]]:
    titles = schema.column(batch, "title", pa.string()).to_pylist()
    return [
        [f"{title} {text}" if title else text]
        for title, text in zip(titles, batch["text"].to_pylist())
    ]


def of_examples(batch: pa.RecordBatch) -> list[list[str]]:
    return [
        [query, *pos] for query, pos in zip(batch["query"].to_pylist(), batch["pos"].to_pylist())
    ]
