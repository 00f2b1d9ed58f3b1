"""Arrow IPC streams and files: the trailer that tells a complete one from a cut one.

Ours open with a zero-row batch whose custom metadata announces a trailer and end with a zero-row batch
that is the trailer: {status, rows, digest, ...}. Stock readers ignore both; foreign writers drop both,
so the trailer is demanded exactly when it was announced. The end-of-stream marker is demanded always.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import pyarrow as pa

from fletching import lineage
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.io.sources import PeekableStream
from fletching.schema import canonical, cast

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
POISON = (
    b"\xff\xff\xff\xff\xff\xff\xff\x7f"  # a message of 2 GiB that never comes: every reader fails
)
ANNOUNCEMENT = {"trailer": "announced"}

# What pyarrow raises on bytes that are no Arrow, measured by mutating streams.
DAMAGE = (
    pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, MemoryError,
    SystemError, OverflowError, NotImplementedError,
)  # fmt: skip

UPSTREAM = "look at the first error above, of the program before this one; run pipes under `set -o pipefail`"


class RowVerifier:
    """What was read of one stream or file so far, to be held against its trailer."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.digest = RowDigest()
        self.announced = False
        self.end: dict[str, Any] | None = None

    def take(self, batch: pa.RecordBatch, note: dict[str, Any] | None) -> pa.RecordBatch | None:
        """The batch, validated; None for an announcement or trailer."""
        batch.validate(full=True)
        if note is not None and not batch.num_rows:
            if note == ANNOUNCEMENT:
                self.announced = True
                return None
            if "status" in note:
                self.end = note
                return None
        self.digest.update(plain(batch))
        return batch

    def verify(self) -> None:
        if self.announced and self.end is None:
            raise InputError(
                f"{self.where} ended after {self.digest.rows:,} rows without its trailer", UPSTREAM
            )
        verify(self.where, self.end, self.digest)


def verify(where: str, end: dict[str, Any] | None, digest: RowDigest) -> None:
    """Refuse rows that are not the ones that were written."""
    if end is None:
        return
    if end.get("rows") != digest.rows:
        raise InputError(
            f"{where} holds {digest.rows:,} rows, but {end.get('rows')} were written", UPSTREAM
        )
    if end.get("digest") != digest.hexdigest():
        raise InputError(
            f"{where}: bytes changed on the way (digest of {digest.rows:,} rows differs)",
            "make the file again",
        )


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in the types that the digest knows."""
    arrays = [cast(column, canonical(column.type)) for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def note_of(metadata: Any) -> dict[str, Any] | None:
    """The custom metadata of one of our zero-row batches."""
    try:
        note = json.loads(metadata[lineage.KEY]) if metadata is not None else None
    except (KeyError, ValueError):
        return None
    return note if isinstance(note, dict) else None


class ArrowStream:
    """One or several concatenated Arrow streams (`cat a b |`)."""

    def __init__(self, tail: PeekableStream, where: str) -> None:
        self.tail, self.where = tail, where
        self.rows = 0
        self.ends: list[dict[str, Any]] = []
        self._open()

    def _open(self) -> None:
        self.current = RowVerifier(self.where)
        try:
            self.reader = pa.ipc.open_stream(self.tail)
            self.schema = self.reader.schema
            self.first = self._next()
        except DAMAGE as error:
            self._refuse(error)

    @property
    def step(self) -> dict[str, Any]:
        """The lineage of the rows; a stream without announcement passed through a foreign program."""
        node = lineage.read(self.schema.metadata).get("step", {})
        return lineage.after_unknown_program(node) if node and not self.current.announced else node

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with the schema it was written under."""
        while True:
            batch, self.first = self.first, None
            while batch is not None:
                yield self.schema, batch
                self.rows += batch.num_rows
                batch = self._next()
            if self.tail.last != END_OF_STREAM:
                raise InputError(
                    f"{self.where} ended early, after {self.rows:,} rows: the program before was cut off",
                    UPSTREAM,
                )
            self.current.verify()
            self.ends.append(self.current.end or {})
            if not self.tail.peek(1):
                return
            self._open()

    def _next(self) -> pa.RecordBatch | None:
        """The next batch with rows or None at the end."""
        try:
            while True:
                read = self.reader.read_next_batch_with_custom_metadata()
                batch = self.current.take(read.batch, note_of(read.custom_metadata))
                if batch is not None and batch.num_rows:
                    return batch
        except StopIteration:
            return None
        except DAMAGE as error:
            self._refuse(error)

    def _refuse(self, error: BaseException) -> NoReturn:
        if self.tail.last == POISON:
            raise InputError(
                f"{self.where}: the program before this one failed after {self.rows:,} rows",
                UPSTREAM,
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{self.where} is damaged or was cut after {self.rows:,} rows ({reason})", UPSTREAM
        ) from None


class ArrowFile:
    """An Arrow IPC file (`ARROW1`), ours or foreign."""

    def __init__(self, file: Any, where: str) -> None:
        self.where = where
        self.current = RowVerifier(where)
        self.rows = 0
        try:
            self.reader = pa.ipc.open_file(file)
            self.schema = self.reader.schema
            if self.reader.num_record_batches:
                first = self.reader.get_batch_with_custom_metadata(0)
                self.announced = note_of(first.custom_metadata) == ANNOUNCEMENT
            else:
                self.announced = False
        except DAMAGE as error:
            raise InputError(
                f"{where} is no complete Arrow file ({error})", "make the file again"
            ) from None

    @property
    def step(self) -> dict[str, Any]:
        node = lineage.read(self.schema.metadata).get("step", {})
        return lineage.after_unknown_program(node) if node and not self.announced else node

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [self.current.end or {}]

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        for i in range(self.reader.num_record_batches):
            try:
                read = self.reader.get_batch_with_custom_metadata(i)
                batch = self.current.take(read.batch, note_of(read.custom_metadata))
            except DAMAGE as error:
                raise InputError(
                    f"{self.where} is damaged after {self.rows:,} rows ({error})",
                    "make the file again",
                ) from None
            if batch is not None and batch.num_rows:
                yield self.schema, batch
                self.rows += batch.num_rows
        self.current.verify()
