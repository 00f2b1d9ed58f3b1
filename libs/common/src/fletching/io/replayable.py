"""A stream that is read twice: a file from its start again, a pipe from a copy."""

from __future__ import annotations

import io
import sys
import tempfile
from typing import BinaryIO, cast

from fletching.io.streams import PeekableStream, RawStream, Readable

COPY_BYTES = 64 << 20  # of a pipe that are kept in memory; more lie in a temporary file


class Replayable:
    """A stream that can be read again from its start: a file, or a copy of what is none.

    Only the first 8,192 rows of a short input are ever read, so nothing is copied ahead of time.
    """

    def __init__(self, stream: PeekableStream) -> None:
        self.stream = stream
        raw = stream.raw
        is_file = isinstance(raw, io.IOBase) and raw.seekable()
        self.file = cast(BinaryIO, raw) if is_file and raw is not sys.stdin.buffer else None
        self.copy = tempfile.SpooledTemporaryFile(COPY_BYTES) if self.file is None else None

    def first_pass(self) -> io.BufferedReader:
        """The stream from its start, copied as it is read where that is needed."""
        source = self.stream if self.copy is None else _Copying(self.stream, self.copy)
        return _buffered(PeekableStream(source))

    def pass_again(self) -> io.BufferedReader:
        """The same bytes from the start. Ends the pass before it."""
        if self.file is not None:
            self.file.seek(0)
            return _buffered(PeekableStream(_UnclosedFile(self.file)))
        assert self.copy is not None
        self.copy.seek(0, io.SEEK_END)
        while data := self.stream.read(1 << 20):  # what the first pass left
            self.copy.write(data)
        self.copy.seek(0)
        return _buffered(PeekableStream(_UnclosedFile(self.copy)))


class _Copying:
    """A stream whose bytes are copied as they are read."""

    def __init__(self, stream: Readable, copy: tempfile.SpooledTemporaryFile[bytes]) -> None:
        self.stream, self.copy = stream, copy

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        data = self.stream.read(size)
        self.copy.write(data)
        return data

    def close(self) -> None:
        """Close the stream; the copy stays open."""
        self.stream.close()


class _UnclosedFile:
    """A file that is read to its end more than once."""

    def __init__(self, file: Readable) -> None:
        self.read = file.read

    def close(self) -> None:
        """Leave the file open for the next pass."""


def _buffered(stream: PeekableStream) -> io.BufferedReader:
    return io.BufferedReader(RawStream(stream), 1 << 20)
