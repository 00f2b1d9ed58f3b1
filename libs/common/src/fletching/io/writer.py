"""Rows out: canonical batches, files that appear complete or not at all, streams that fail."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, NotRequired, TextIO, TypedDict, Unpack

import pyarrow as pa

from fletching import column_mapping, lineage
from fletching import schema as contract
from fletching.digest import RowDigest
from fletching.errors import UsageError
from fletching.io.arrow import POISON
from fletching.io.blocks import BATCH_ROWS, WaitingRows, cut
from fletching.io.formats import STDOUT_JSONL, output_extensions, output_format
from fletching.lineage import Node
from fletching.protocols import RowOrigin
from fletching.report import Report
from fletching.table import atomic


def check_output(path: str | None, tool: str) -> None:
    """Raise UsageError for an output that cannot work, before any work is done."""
    if path in (None, "-", STDOUT_JSONL) and _is_closed(sys.stdout):
        raise UsageError("stdout is closed", "name a file: -o OUT.parquet; or leave out >&-")
    if path == STDOUT_JSONL:  # a terminal shows it
        return
    if path is None or path == "-":
        if sys.stdout.isatty():
            raise UsageError(
                "the output is an Arrow stream, which a terminal cannot show",
                f"look at it with `{tool} … | arrowcat`, pipe it into the next tool, "
                "or name a file: -o OUT.parquet; -o -.jsonl writes JSON lines here",
            )
        return
    folder = os.path.dirname(path)
    if not path.endswith(output_extensions()) and not atomic.is_special(path):
        fix = "end it in " + ", ".join(output_extensions())
        raise UsageError(f"-o {path} has no known extension", fix)
    if os.path.isdir(path):
        example = os.path.join(path, "out.parquet")
        raise UsageError(f"-o {path} is a folder", f"name a file in it: -o {example}")
    if not os.path.isdir(folder or "."):
        raise UsageError(f"the folder of -o {path} does not exist", f"mkdir -p {folder}")


def _is_closed(stream: TextIO | None) -> bool:
    """Was this stream closed when the program began? `fletching.cli` has put one that fails."""
    if stream is None:
        return True
    try:
        flags = fcntl.fcntl(stream.fileno(), fcntl.F_GETFL)
    except (OSError, ValueError):  # an object without a descriptor
        return False
    return flags & os.O_ACCMODE == os.O_RDONLY


class Provenance(TypedDict):
    """What the lineage of an output states."""

    version: str  # of the tool
    options: Mapping[str, Any]  # those that can change rows
    sources: NotRequired[Sequence[RowOrigin]]  # the readers that the rows come from


class Writer:
    """One output: use it as a context manager; leaving the block without an exception commits.

    path: a file by extension, None for an Arrow stream on stdout, `-.jsonl` for JSON lines there.
    schema: the name of a schema; columns: the Arrow schema of the rows.
    count: do these rows count as `rows_out`? Not so for side outputs (rejects, texts).
    provenance: keywords for the lineage; see `Provenance`.
    """

    def __init__(
        self,
        report: Report,
        path: str | None,
        schema: str,
        columns: pa.Schema,
        *,
        count: bool = True,
        **provenance: Unpack[Provenance],
    ) -> None:
        check_output(path, report.tool)
        self.report, self.count = report, count
        self.sources = provenance.get("sources", ())
        self.path = None if path == "-" else path
        self.contract = contract.load(schema)
        node = lineage.make_node(
            report.tool,
            provenance["version"],
            options=provenance["options"],
            sources=[node for reader in self.sources for node in reader.lineage_nodes],
        )
        self.columns = columns.with_metadata(lineage.stamp(schema, self.contract.version, node))
        self.digest = RowDigest()
        self.waiting = WaitingRows(self.columns)
        self.rows = 0
        self.temporary: str | None = None  # the name of the file until it is published
        self.completed = False
        self.published = False
        self.file = self._open()
        file_path = self.path if self.temporary or self.is_jsonl_stream else None
        self.sink = output_format(file_path).create(self.file, file_path or "", self.columns)

    @property
    def is_jsonl_stream(self) -> bool:
        """Are these JSON lines on stdout? They end anyhow: a failure leaves no mark in them."""
        return self.path == STDOUT_JSONL

    def _open(self) -> BinaryIO:
        if self.path is None or self.is_jsonl_stream:
            return sys.stdout.buffer
        if atomic.is_special(self.path):
            return atomic.open_special(self.path)
        file = atomic.create_temporary(self.path)
        self.temporary = file.name
        return file

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows; batch boundaries have no effect on the bytes written.

        Raises InputError for a row that breaks a promise of the schema.
        """
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=self.columns)
        column_mapping.check(self.contract, batch, "the output", first_row=self.rows + 1)
        self.rows += batch.num_rows
        self.waiting.append(batch)
        if self.waiting.rows >= BATCH_ROWS:
            self._flush(everything=False)

    def _flush(self, everything: bool) -> None:
        """Write whole canonical batches; the rest waits for more rows."""
        table = self.waiting.take()
        rest = 0 if everything else table.num_rows % BATCH_ROWS
        rows = table.num_rows - rest
        for batch in map(_compact, cut(table.slice(0, rows))):
            self.digest.update(batch)
            self.sink.write(batch)
        for batch in table.slice(rows).to_batches():
            self.waiting.append(batch)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        AtomicOutputs(self).__exit__(kind, failure, trace)

    def complete(self) -> None:
        """Write the end: all bytes are on disk, still without their name."""
        if self.completed:
            return
        self._flush(everything=True)
        self.sink.close(self._end())
        self.completed = True
        self.file.flush()
        if self.temporary:
            os.fsync(self.file.fileno())

    def _end(self) -> Node:
        return {
            "status": "complete",
            "rows": self.rows,
            "digest": self.digest.hexdigest(),
            "dropped": dict(sorted(self.report.dropped.items())),
            "from": [end for reader in self.sources for end in reader.ends if end],
        }

    def publish(self) -> None:
        """Give the completed file its name."""
        self.published = True
        if self.temporary:
            assert self.path
            atomic.replace(self.temporary, self.path)
            self.file.close()  # not earlier: it holds the lock of the temporary name
            self.temporary = None

    def withdraw(self, failure: BaseException) -> None:
        """Leave no file, or a stream that no reader takes for complete."""
        with contextlib.suppress(OSError):
            self.waiting.close()
        if self.published:
            return
        if not self.completed:
            self.sink.abandon()
        if self.temporary:
            with contextlib.suppress(OSError):  # what is buffered may not fit on a full disk
                self.file.close()
            atomic.remove(self.temporary)
        elif not isinstance(failure, BrokenPipeError) and not self.is_jsonl_stream:
            with contextlib.suppress(OSError):  # the reader may have failed too
                self.file.write(POISON)
                self.file.flush()


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A copy of a slice.

    Arrow would fill the padding of a slice with the rows behind it, dropped ones among them.
    """
    columns = [pa.concat_arrays([column]) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


class AtomicOutputs:
    """Several outputs that appear together or not at all.

    Every file is complete on disk before the first is published, and the account of all must
    balance. A stream on stdout ends last: what its reader takes for complete is complete.
    """

    def __init__(self, *writers: Writer) -> None:
        self.writers = list(writers)

    def add(self, writer: Writer) -> Writer:
        """Add an output; the same writer."""
        self.writers.append(writer)
        return writer

    def __enter__(self) -> AtomicOutputs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if failure is None:
                self._commit()
        except BaseException as error:
            failure = error
            raise
        finally:
            if failure is not None:
                for writer in self.writers:
                    writer.withdraw(failure)

    def _commit(self) -> None:
        counted = [writer for writer in self.writers if writer.count]
        if counted:
            report = counted[0].report
            report.rows_out += sum(writer.rows for writer in counted)
            report.check()
        for writer in sorted(self.writers, key=lambda writer: writer.temporary is None):
            writer.complete()
        for writer in self.writers:
            writer.publish()
