"""A writer one step behind: a file is encoded while the next rows are drawn."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import pyarrow as pa

from fletching.io import Writer


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
