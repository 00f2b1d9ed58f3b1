"""The input: rows of texts or examples, or plain text files whose line breaks are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pyarrow as pa

from fletching.errors import InputError, UsageError
from fletching.io import Reader
from fletching.io.sources import resolve
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.titled_texts import titled_texts

PLAIN = (".txt",)
BATCH = 4096  # texts of plain files in a batch

TextsOfRow = list[str]


class Documents:
    """Batches of rows, each a list of texts: the text or file, or query and positives.

    lines: each line of a plain file is a text. limit: read only so many rows.
    count: enter the rows in the report. Raises UsageError where inputs contradict each other.
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
        self.reader: Reader | None = None
        if not self.files:
            self.reader = Reader(report, inputs, ["texts", "examples"], limit=limit, count=count)
        if lines and self.reader:
            raise UsageError("--lines is for plain text files (.txt)", "leave it out")

    @property
    def lineage(self) -> list[Lineage]:
        """The lineage of the rows, one node for each input; [] for plain files."""
        return self.reader.lineage_nodes if self.reader else []

    def __iter__(self) -> Iterator[list[TextsOfRow]]:
        if self.reader:
            is_examples = self.reader.schema.name == "examples"
            texts_of = texts_of_examples if is_examples else texts_of_documents
            yield from map(texts_of, self.reader)
        else:
            yield from self._plain_batches()

    def _plain_batches(self) -> Iterator[list[TextsOfRow]]:
        batch: list[TextsOfRow] = []
        for number, text in enumerate(self._plain_texts()):
            if number == self.limit:
                break
            self.report.rows_in += int(self.count)
            batch.append([text])
            if len(batch) == BATCH:
                yield batch
                batch = []
        yield batch

    def _plain_texts(self) -> Iterator[str]:
        for path in self.files:
            if self.lines:
                yield from _lines(path)
            else:
                yield decode(path, _content(path), 1)


def plain_files(inputs: Sequence[str]) -> list[str]:
    """The .txt files that the arguments name or whose folders they name; [] for files of rows.

    Raises UsageError for plain files beside files of rows.
    """
    folders = [name for name in inputs if os.path.isdir(name)]
    plain_folders = {
        name for name in folders if any(entry.endswith(PLAIN) for entry in os.listdir(name))
    }
    plain = [name for name in inputs if name in plain_folders or name.endswith(PLAIN)]
    if not plain:
        return []
    if len(plain) < len(inputs):
        raise UsageError(
            "plain text files are mixed with other inputs", "name .txt files alone, or rows alone"
        )
    return [source.path for source in resolve(plain, PLAIN) if source.path]


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None


def _lines(path: str) -> Iterator[str]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            yield decode(path, line, number).rstrip("\r\n")


def decode(path: str, content: bytes, line: int) -> str:
    """The text of bytes whose first line is number `line` of the file.

    Raises InputError, with the line, where they are not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line += content[: error.start].count(b"\n")
        raise InputError(
            f"{path}, line {line}: not UTF-8 ({error.reason})",
            "convert it: iconv -f latin1 -t utf-8",
        ) from None


def texts_of_documents(batch: pa.RecordBatch) -> list[TextsOfRow]:
    """The texts of `texts`, each after its title, where it has one."""
    return [[text] for text in titled_texts(batch).to_pylist()]


def texts_of_examples(batch: pa.RecordBatch) -> list[TextsOfRow]:
    """The query and the positives of each row."""
    queries, positives = batch["query"].to_pylist(), batch["pos"].to_pylist()
    return [[query, *texts] for query, texts in zip(queries, positives)]
