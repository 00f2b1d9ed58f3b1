"""The writers of a run: every output has the same lineage; files are encoded in the background."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import pyarrow as pa

from fletching.io import Writer
from fletching.io.tables import TableReader
from fletching.report import Report


class OutputWriters:
    """Makes a `Writer` for each output of a run.

    version, row_options: of the lineage; row_options are the options that can change rows.
    """

    def __init__(
        self, table: TableReader, report: Report, *, version: str, row_options: Mapping[str, Any]
    ) -> None:
        self.report = report
        self.lineage: dict[str, Any] = {
            "version": version,
            "options": dict(row_options),
            "sources": [table],
        }

    def open(
        self, path: str | None, schema: str, columns: pa.Schema, *, count: bool = True
    ) -> Writer:
        """A file, or a stream on stdout. count: are its rows those of the account?"""
        return Writer(
            self.report, path, schema=schema, columns=columns, count=count, **self.lineage
        )


class BackgroundWriter:
    """Writes batches to a file on a second thread; leaving the block waits for the last one.

    A stream is written at once: a thread that waits for its reader could not be interrupted.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.thread = ThreadPoolExecutor(1)
        self.last: Future[None] | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Start to write a batch, after the one before."""
        if self.writer.temporary is None:
            self.writer.write(batch)
            return
        if self.last is not None:
            self.last.result()
        self.last = self.thread.submit(self.writer.write, batch)

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.thread.shutdown()
        if failure is None and self.last is not None:
            self.last.result()
