"""Arrow IPC streams and files: the trailer that tells a complete one from a cut one.

Ours open with a zero-row batch whose custom metadata announces a trailer and end with a zero-row
batch that is the trailer: {status, rows, digest, ...}. Stock readers ignore both; foreign writers
drop both, so the trailer is required exactly when it was announced. The end-of-stream marker is
always required.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa

from fletching import column_names, lineage
from fletching.arrow_types import canonical, cast
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.io.formats import INPUT_FORMATS, OUTPUT_FORMATS, InputFormat, OutputFormat
from fletching.io.streams import PeekableStream
from fletching.lineage import Node
from fletching.schema import Schema

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# A message of 2 GiB that never comes: every reader fails on it.
POISON = b"\xff\xff\xff\xff\xff\xff\xff\x7f"
ANNOUNCEMENT = {"trailer": "announced"}

# What pyarrow raises on bytes that are no Arrow, measured by mutating streams.
DAMAGE = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    MemoryError,
    SystemError,
    OverflowError,
    NotImplementedError,
    RecursionError,
)

UPSTREAM = (
    "look at the first error above, of the program before this one; "
    "run pipes under `set -o pipefail`"
)
REMAKE = "make the file again"


class RowVerifier:
    """The rows of one stream or file read so far, to be compared with its trailer."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.digest = RowDigest()
        self.announced = False
        self.end: Node | None = None

    def take(self, batch: pa.RecordBatch, note: Node | None) -> pa.RecordBatch | None:
        """The batch, validated; None for an announcement or trailer.

        note: the batch's custom metadata.
        """
        batch.validate(full=True)
        if note is not None and not batch.num_rows:
            if note == ANNOUNCEMENT:
                self.announced = True
                return None
            if "status" in note:
                self.end = note
                return None
        self.digest.update(to_canonical(batch))
        return batch

    def verify(self) -> None:
        """Raise InputError where the trailer is missing or was written for other rows."""
        if self.announced and self.end is None:
            what = f"{self.where} ended after {self.digest.rows:,} rows without its trailer"
            raise InputError(what, UPSTREAM)
        verify(self.where, self.end, self.digest)


def verify(where: str, end: Node | None, digest: RowDigest) -> None:
    """Raise InputError where these are not the rows that were written.

    end: what the writer knew at the end; None: nothing.
    """
    if end is None:
        return
    if end.get("rows") != digest.rows:
        what = f"{where} holds {digest.rows:,} rows, but {end.get('rows')} were written"
        raise InputError(what, UPSTREAM)
    if end.get("digest") != digest.hexdigest():
        what = f"{where}: bytes changed on the way (digest of {digest.rows:,} rows differs)"
        raise InputError(what, REMAKE)


def to_canonical(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in the types that the digest is defined for."""
    arrays = [cast(column, canonical(column.type)) for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def note_of(metadata: Mapping[bytes, bytes] | None) -> Node | None:
    """The custom metadata of one of our zero-row batches."""
    try:
        note = json.loads(metadata[lineage.KEY]) if metadata is not None else None
    except (KeyError, ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) else None


class ArrowStream:
    """One or several concatenated Arrow streams (`cat a b |`)."""

    def __init__(self, stream: PeekableStream, where: str) -> None:
        self.stream, self.where = stream, where
        self.rows = 0
        self.ends: list[Node] = []
        self._open()

    def _open(self) -> None:
        self.current = RowVerifier(self.where)
        try:
            self.reader = pa.ipc.open_stream(self.stream)
            self.schema = self.reader.schema
            column_names.check(self.schema, self.where)
            self.first = self._next()
        except DAMAGE as error:
            self._raise_damage(error)

    @property
    def lineage_node(self) -> Node:
        """Of the rows; a stream without announcement passed through a foreign program."""
        node = lineage.read_node(self.schema.metadata)
        return lineage.after_unknown_program(node) if node and not self.current.announced else node

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with the schema under which it was written. Raises InputError on damage."""
        while True:
            batch, self.first = self.first, None
            while batch is not None:
                yield self.schema, batch
                self.rows += batch.num_rows
                batch = self._next()
            if self.stream.last != END_OF_STREAM:
                after = f"ended early, after {self.rows:,} rows"
                what = f"{self.where} {after}: the program before was cut off"
                raise InputError(what, UPSTREAM)
            self.current.verify()
            self.ends.append(self.current.end or {})
            if not self.stream.peek(1):
                return
            self._open()

    def _next(self) -> pa.RecordBatch | None:
        """The next batch with rows; None at the end."""
        try:
            while True:
                read = self.reader.read_next_batch_with_custom_metadata()
                batch = self.current.take(read.batch, note_of(read.custom_metadata))
                if batch is not None and batch.num_rows:
                    return batch
        except StopIteration:
            return None
        except DAMAGE as error:
            self._raise_damage(error)

    def _raise_damage(self, error: BaseException) -> NoReturn:
        if self.stream.last == POISON:
            what = f"{self.where}: the program before this one failed after {self.rows:,} rows"
            raise InputError(what, UPSTREAM) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"{self.where} is damaged or was cut after {self.rows:,} rows ({reason})"
        raise InputError(what, UPSTREAM) from None


class ArrowFile:
    """An Arrow IPC file (`ARROW1`), ours or foreign."""

    def __init__(self, file: pa.NativeFile | BinaryIO, where: str) -> None:
        self.where = where
        self.current = RowVerifier(where)
        self.rows = 0
        self.announced = False
        try:
            self.reader = pa.ipc.open_file(file)
            self.schema = self.reader.schema
            column_names.check(self.schema, where)
            if self.reader.num_record_batches:
                first = self.reader.get_batch_with_custom_metadata(0)
                self.announced = note_of(first.custom_metadata) == ANNOUNCEMENT
        except DAMAGE as error:
            raise InputError(f"{where} is no complete Arrow file ({error})", REMAKE) from None

    @property
    def lineage_node(self) -> Node:
        """Of the rows; a file without announcement passed through a foreign program."""
        node = lineage.read_node(self.schema.metadata)
        return lineage.after_unknown_program(node) if node and not self.announced else node

    @property
    def ends(self) -> list[Node]:
        """The trailer, after all rows were read."""
        return [self.current.end or {}]

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with the schema under which it was written. Raises InputError on damage."""
        for number in range(self.reader.num_record_batches):
            try:
                read = self.reader.get_batch_with_custom_metadata(number)
                batch = self.current.take(read.batch, note_of(read.custom_metadata))
            except DAMAGE as error:
                what = f"{self.where} is damaged after {self.rows:,} rows ({error})"
                raise InputError(what, REMAKE) from None
            if batch is not None and batch.num_rows:
                yield self.schema, batch
                self.rows += batch.num_rows
        self.current.verify()


class ArrowSink:
    """An Arrow stream or file with announcement and trailer.

    new: `pa.ipc.new_stream` or `pa.ipc.new_file`.
    Never a context manager: pyarrow's writes the end marker even when the block raised.
    """

    def __init__(
        self, file: BinaryIO, columns: pa.Schema, new: Callable[..., pa.ipc.RecordBatchStreamWriter]
    ) -> None:
        self.writer = new(file, columns)
        self.no_rows = pa.RecordBatch.from_pylist([], columns)
        self._write_note(ANNOUNCEMENT)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        self.writer.write_batch(batch)

    def close(self, end: Node) -> None:
        """Write the trailer and the end marker."""
        self._write_note(end)
        self.writer.close()

    def abandon(self) -> None:
        """Nothing to do: without its end marker a stream or file is not complete."""

    def _write_note(self, content: Mapping[str, Any]) -> None:
        metadata = {lineage.KEY: lineage.dump(content)}
        self.writer.write_batch(self.no_rows, custom_metadata=metadata)


def _open_stream(stream: PeekableStream, where: str, schema: Schema) -> ArrowStream:
    return ArrowStream(stream, where)


def _open_file(file: pa.NativeFile | BinaryIO, where: str, schema: Schema) -> ArrowFile:
    return ArrowFile(file, where)


def _create_stream(file: BinaryIO, path: str, columns: pa.Schema) -> ArrowSink:
    return ArrowSink(file, columns, pa.ipc.new_stream)


def _create_file(file: BinaryIO, path: str, columns: pa.Schema) -> ArrowSink:
    return ArrowSink(file, columns, pa.ipc.new_file)


INPUT_FORMATS.register(
    "arrow-stream",
    InputFormat(magic=b"\xff\xff\xff\xff", extensions=(".arrows",), open=_open_stream),
)
INPUT_FORMATS.register(
    "arrow-file",
    InputFormat(
        magic=b"ARROW1", extensions=(".arrow", ".feather"), open=_open_file, needs_seek=True
    ),
)
OUTPUT_FORMATS.register(
    "arrow-stream", OutputFormat(extensions=(".arrows",), create=_create_stream)
)
OUTPUT_FORMATS.register(
    "arrow-file", OutputFormat(extensions=(".arrow", ".feather"), create=_create_file)
)
