"""Rows out: canonical batches, files that appear complete or not at all, streams that tell failure."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from fletching import lineage
from fletching import schema as contract
from fletching.digest import RowDigest
from fletching.errors import UsageError
from fletching.io import arrow, jsonl, parquet
from fletching.io.reader import BATCH_ROWS, Reader, cut
from fletching.report import Report

FILES = (".parquet", ".arrow", ".feather", ".arrows", ".jsonl", ".jsonl.gz", ".jsonl.zst")


def check_output(path: str | None, tool: str) -> None:
    """Refuse an output that cannot work, before any work is done."""
    if path is None or path == "-":
        if sys.stdout.isatty():
            raise UsageError(
                f"{tool} writes an Arrow stream, which a terminal cannot show",
                "pipe it into the next tool, or name a file: -o OUT.parquet or -o OUT.jsonl",
            )
    elif not path.endswith(FILES) and not _is_special(path):
        raise UsageError(f"-o {path} has no known extension", "end it in " + ", ".join(FILES))
    elif os.path.isdir(path):
        raise UsageError(
            f"-o {path} is a folder", f"name a file in it: -o {os.path.join(path, 'out.parquet')}"
        )
    elif not os.path.isdir(os.path.dirname(path) or "."):
        raise UsageError(
            f"the folder of -o {path} does not exist", f"mkdir -p {os.path.dirname(path)}"
        )


def _is_special(path: str) -> bool:
    """A FIFO, /dev/null, /dev/fd/63: written to directly, as a stream."""
    return (
        os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path)
    )


class Writer:
    """One output: use it as a context manager; leaving the block without an exception commits.

    path: a file by extension, or None for an Arrow stream on stdout.
    columns: the Arrow schema of the rows. sources: the readers they come from, for the lineage.
    count: do these rows count as `rows_out`? Not so for side outputs (rejects, texts).
    """

    def __init__(
        self,
        report: Report,
        path: str | None,
        schema: str,
        columns: pa.Schema,
        *,
        version: str,
        options: dict[str, Any],
        sources: Sequence[Reader] = (),
        count: bool = True,
    ) -> None:
        check_output(path, report.tool)
        self.report, self.count, self.sources = report, count, sources
        self.path = None if path == "-" else path
        self.contract = contract.load(schema)
        node = lineage.step(
            report.tool, version, options, [step for reader in sources for step in reader.steps]
        )
        self.columns = columns.with_metadata(lineage.stamp(schema, self.contract.version, node))
        self.digest = RowDigest()
        self.waiting: list[pa.RecordBatch] = []
        self.rows = 0
        self.temporary: str | None = None
        self.completed = self.published = False
        self.file = self._open()
        self.output = self._format()

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows; batch boundaries have no effect on the bytes written."""
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=self.columns)
        contract.check(self.contract, batch, f"{self.report.tool}'s output", self.rows + 1)
        self.rows += batch.num_rows
        self.waiting.append(batch)
        if sum(waiting.num_rows for waiting in self.waiting) >= BATCH_ROWS:
            self._flush(everything=False)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, failure: BaseException | None, trace: Any) -> None:
        AtomicOutputs(self).__exit__(kind, failure, trace)

    def _flush(self, everything: bool) -> None:
        """Write whole canonical batches; the rest waits for more rows."""
        table = pa.Table.from_batches(self.waiting, self.columns)
        rows = table.num_rows if everything else table.num_rows - table.num_rows % BATCH_ROWS
        for batch in map(_compact, cut(table.slice(0, rows))):
            self.digest.update(batch)
            self.output.write(batch)
        self.waiting = table.slice(rows).to_batches()

    def complete(self) -> None:
        """All bytes are on disk and the file is closed, still without its name; nothing can be added."""
        if self.completed:
            return
        self._flush(everything=True)
        end: dict[str, Any] = {
            "status": "complete",
            "rows": self.rows,
            "digest": self.digest.hexdigest(),
            "dropped": dict(sorted(self.report.dropped.items())),
            "from": [end for reader in self.sources for end in reader.ends if end],
        }
        self.output.close(end)
        self.completed = True
        self.file.flush()
        if self.temporary:
            os.fsync(self.file.fileno())
            self.file.close()

    def _publish(self) -> None:
        """The file takes its name."""
        self.published = True
        if self.temporary:
            assert self.path
            os.replace(self.temporary, self.path)
            self.temporary = None
            folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _withdraw(self, failure: BaseException) -> None:
        """No file, or a stream that no reader takes for complete."""
        if self.published:
            return
        if isinstance(self.output, parquet.ParquetSink) and not self.completed:
            self.output.abandon()
        if self.temporary:
            with contextlib.suppress(OSError):  # what is buffered may not fit on a full disk
                self.file.close()
            if os.path.exists(self.temporary):
                os.unlink(self.temporary)
        elif not isinstance(failure, BrokenPipeError):
            try:
                self.file.write(arrow.POISON)
                self.file.flush()
            except OSError:
                pass  # the reader is gone too

    def _open(self) -> BinaryIO:
        if self.path is None:
            return sys.stdout.buffer
        if _is_special(self.path):
            return open(self.path, "wb")
        folder, name = os.path.split(self.path)
        _remove_leftovers(os.path.join(folder, f".{name}.tmp-"))
        self.temporary = os.path.join(folder, f".{name}.tmp-{os.getpid()}")
        return open(self.temporary, "xb")

    def _format(self) -> Any:
        path = self.path if self.temporary else None
        if path is None or path.endswith(".arrows"):
            return _Ipc(self.file, self.columns, pa.ipc.new_stream)
        if path.endswith((".arrow", ".feather")):
            return _Ipc(self.file, self.columns, pa.ipc.new_file)
        if path.endswith(".parquet"):
            return parquet.ParquetSink(self.file, self.columns)
        return jsonl.JsonlSink(self.file, path)


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A copy of a slice alone: Arrow fills its padding with the rows behind it, dropped ones among them."""
    return pa.RecordBatch.from_arrays(
        [pa.concat_arrays([column]) for column in batch.columns], schema=batch.schema
    )


class AtomicOutputs:
    """Several outputs that appear together or not at all.

    Every file is complete on disk before the first takes its name, and the account of all must balance.
    A stream on stdout is ended last: what its reader takes for complete is complete.
    """

    def __init__(self, *writers: Writer) -> None:
        self.writers = list(writers)

    def add(self, writer: Writer) -> Writer:
        self.writers.append(writer)
        return writer

    def __enter__(self) -> AtomicOutputs:
        return self

    def __exit__(self, kind: Any, failure: BaseException | None, trace: Any) -> None:
        try:
            if failure is None:
                self._commit()
        except BaseException as error:
            failure = error
            raise
        finally:
            if failure is not None:
                for writer in self.writers:
                    writer._withdraw(failure)

    def _commit(self) -> None:
        counted = [writer for writer in self.writers if writer.count]
        if counted:
            report = counted[0].report
            report.rows_out += sum(writer.rows for writer in counted)
            report.check()
        for writer in sorted(self.writers, key=lambda writer: writer.temporary is None):
            writer.complete()
        for writer in self.writers:
            writer._publish()


class _Ipc:
    """An Arrow stream or file with announcement and trailer.

    Never a context manager: pyarrow's writes the end marker even when the block raised.
    """

    def __init__(self, file: BinaryIO, columns: pa.Schema, new: Any) -> None:
        self.writer = new(file, columns)
        self.nothing = pa.RecordBatch.from_pylist([], columns)
        self._note(arrow.ANNOUNCEMENT)

    def write(self, batch: pa.RecordBatch) -> None:
        self.writer.write_batch(batch)

    def close(self, end: dict[str, Any]) -> None:
        self._note(end)
        self.writer.close()

    def _note(self, content: dict[str, Any]) -> None:
        self.writer.write_batch(self.nothing, custom_metadata={lineage.KEY: lineage.dump(content)})


def _remove_leftovers(prefix: str) -> None:
    """Delete what killed runs of the same output left behind; live ones keep their file."""
    for path in glob.glob(glob.escape(prefix) + "*"):
        try:
            os.kill(int(path[len(prefix) :]), 0)
        except ProcessLookupError:
            os.unlink(path)
        except (ValueError, PermissionError):
            pass
