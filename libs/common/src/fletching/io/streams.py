"""Byte streams: peeked into, decompressed, copied where a format needs to seek."""

from __future__ import annotations

import gzip
import io
import shutil
import sys
import tempfile
import zlib
from typing import BinaryIO, Protocol

from fletching.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Readable(Protocol):
    """What a stream reads from."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, all of them without a size; b"" at the end."""

    def close(self) -> None:
        """Release the file."""


class PeekableStream:
    """A file whose first bytes can be read ahead, and that remembers the last eight bytes read.

    raw: what it reads from. last: those eight bytes.
    """

    def __init__(self, raw: Readable) -> None:
        self.raw = raw
        self.last = b""
        self.closed = False
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end; they are read again afterwards."""
        while len(self._ahead) < size:
            more = self.raw.read(size - len(self._ahead))
            if not more:
                break
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; all of them for a negative size."""
        size = -1 if size is None else size
        data = self._read(size)
        self.last = (self.last + data[-8:])[-8:]
        return data

    def _read(self, size: int) -> bytes:
        if not self._ahead:
            return self.raw.read(size)
        if size < 0:
            data, self._ahead = self._ahead + self.raw.read(), b""
            return data
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(data) < size:
            data += self.raw.read(size - len(data))
        return data

    def readable(self) -> bool:
        """True, as pyarrow asks."""
        return True

    def seekable(self) -> bool:
        """False, as pyarrow asks."""
        return False

    def writable(self) -> bool:
        """False, as pyarrow asks."""
        return False

    def close(self) -> None:
        """Close the file, except stdin."""
        self.closed = True
        if self.raw is not sys.stdin.buffer:
            self.raw.close()


class RawStream(io.RawIOBase):
    """A PeekableStream as the raw file that io.BufferedReader wants."""

    def __init__(self, stream: PeekableStream) -> None:
        self.stream = stream

    def readable(self) -> bool:
        """True, as io.BufferedReader asks."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Fill the buffer; the number of bytes."""
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Decompressor:
    """A decompressing file whose damage is an InputError, whoever reads through it."""

    def __init__(self, file: Readable, where: str) -> None:
        self.file, self.where = file, where

    def read(self, size: int = -1, /) -> bytes:
        """The next decompressed bytes. Raises InputError."""
        try:
            return self.file.read(size)
        except (EOFError, OSError, ValueError, zlib.error) as error:
            what = f"{self.where} is damaged or was cut ({error})"
            raise InputError(what, "make the file again") from None

    def close(self) -> None:
        """Release the file."""
        self.file.close()


def decompress(stream: PeekableStream, where: str) -> PeekableStream | None:
    """The content of a gzip or zstd stream; None where it is neither."""
    head = stream.peek(len(ZSTD_MAGIC))
    if head.startswith(GZIP_MAGIC):
        unzipped = gzip.GzipFile(fileobj=io.BufferedReader(RawStream(stream)))
        return PeekableStream(Decompressor(unzipped, where))
    if head == ZSTD_MAGIC:
        import pyarrow as pa

        return PeekableStream(Decompressor(pa.CompressedInputStream(stream, "zstd"), where))
    return None


def spool(stream: PeekableStream) -> BinaryIO:
    """A seekable copy of a pipe, in the temporary folder. It vanishes when it is closed."""
    copy = tempfile.TemporaryFile(prefix="fletching-")
    shutil.copyfileobj(stream, copy, 1 << 20)
    copy.seek(0)
    return copy
