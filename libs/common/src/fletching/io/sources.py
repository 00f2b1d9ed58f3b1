"""From what the user named (paths, folders, globs, URLs, stdin) to open inputs of a known format."""

from __future__ import annotations

import glob
import gzip
import io
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from fletching.errors import InputError, UsageError

Format = Literal["parquet", "arrow-file", "arrow-stream", "text", "empty"]
EXTENSIONS = (".parquet", ".arrow", ".arrows", ".feather", ".jsonl", ".ndjson", ".json")
COMPRESSED = (".gz", ".zst")


@dataclass
class Source:
    """One input: where it is (for error texts) and how to open it."""

    where: str
    path: str | None  # None: stdin

    def open(self) -> BinaryIO:
        if self.path is None:
            return sys.stdin.buffer
        try:
            if "://" in self.path:
                return _open_url(self.path)
            return open(self.path, "rb")
        except FileNotFoundError:
            raise InputError(f"{self.where} does not exist", "check the path") from None
        except (OSError, ValueError, ImportError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"{self.where} cannot be opened: {reason}", "check the path and its rights"
            ) from None


def resolve(inputs: Sequence[str], extensions: tuple[str, ...] = EXTENSIONS) -> list[Source]:
    """The sources that the arguments name, in the order given; inside a folder or glob by name.

    extensions: which files of a folder are data.
    """
    if not inputs or list(inputs) == ["-"]:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "nothing to read: no file is named and stdin is a terminal",
                "name a file, or pipe another tool into this one",
            )
        return [Source("stdin", None)]
    if "-" in inputs:
        raise UsageError("- (stdin) stands beside other inputs", "name files alone, or stdin alone")
    return [source for name in inputs for source in _expand(name, extensions)]


def _expand(name: str, extensions: tuple[str, ...]) -> list[Source]:
    if "://" in name:
        return [Source(url, url) for url in (_glob_url(name) if glob.has_magic(name) else [name])]
    if os.path.isdir(name):
        inside = sorted(entry for entry in os.listdir(name) if _is_data(entry, extensions))
        if not inside:
            raise InputError(
                f"{name} holds no {', '.join(extensions)} file", "name a folder of data files"
            )
        return [Source(path, path) for path in (os.path.join(name, entry) for entry in inside)]
    if glob.has_magic(name) and not os.path.exists(name):
        found = sorted(glob.glob(name, recursive=True))
        if not found:
            raise InputError(f"no file matches {name}", "check the pattern")
        return [Source(path, path) for path in found]
    return [Source(name, name)]


def _is_data(entry: str, extensions: tuple[str, ...]) -> bool:
    stem = entry
    for extension in COMPRESSED:
        stem = stem.removesuffix(extension)
    return stem.endswith(extensions) and not entry.startswith((".", "_"))


def _open_url(url: str) -> BinaryIO:
    import fsspec

    return fsspec.open(url, "rb").open()


def _glob_url(pattern: str) -> list[str]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(pattern)
    # Unlike a local glob, fsspec's matches hidden files, such as outputs that are being written.
    names = [name for name in filesystem.glob(path) if not os.path.basename(name).startswith(".")]
    found = sorted(filesystem.unstrip_protocol(name) for name in names)
    if not found:
        raise InputError(f"no file matches {pattern}", "check the pattern")
    return found


# --- formats -------------------------------------------------------------------------------------


class PeekableStream:
    """A file that can be looked into before it is read, and knows the last bytes that were read."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.waiting = b""
        self.last = b""
        self.closed = False

    def peek(self, size: int) -> bytes:
        while len(self.waiting) < size:
            more = self.raw.read(size - len(self.waiting))
            if not more:
                break
            self.waiting += more
        return self.waiting[:size]

    def read(self, size: int = -1) -> bytes:
        if self.waiting:
            if size is None or size < 0:
                data, self.waiting = self.waiting + self.raw.read(), b""
            else:
                data, self.waiting = self.waiting[:size], self.waiting[size:]
                if len(data) < size:
                    data += self.raw.read(size - len(data))
        else:
            data = self.raw.read(size)
        self.last = (self.last + data[-8:])[-8:]
        return data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
        if self.raw is not sys.stdin.buffer:
            self.raw.close()


def sniff(raw: Any, where: str = "the input") -> tuple[Format, PeekableStream]:
    """The format by content, and the file from its first byte on, decompressed."""
    tail = PeekableStream(raw)
    head = tail.peek(8)
    if head[:2] == b"\x1f\x8b":
        return sniff(
            _Unpacked(gzip.GzipFile(fileobj=io.BufferedReader(_Readable(tail))), where), where
        )
    if head[:4] == b"\x28\xb5\x2f\xfd":
        import pyarrow

        return sniff(_Unpacked(pyarrow.CompressedInputStream(tail, "zstd"), where), where)
    if head[:4] == b"PAR1":
        return "parquet", tail
    if head[:6] == b"ARROW1":
        return "arrow-file", tail
    if head[:4] == b"\xff\xff\xff\xff":
        return "arrow-stream", tail
    return ("text" if head else "empty"), tail


class _Unpacked:
    """A decompressor whose damage is refused, whoever reads through it."""

    def __init__(self, file: Any, where: str) -> None:
        self.file, self.where, self.close = file, where, file.close

    def read(self, size: int = -1) -> bytes:
        try:
            return self.file.read(size)
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise InputError(
                f"{self.where} is damaged or was cut ({error})", "make the file again"
            ) from None


class _Readable(io.RawIOBase):
    """A Tail as the raw file that io.BufferedReader wants."""

    def __init__(self, tail: PeekableStream) -> None:
        self.tail = tail

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.tail.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def spool(tail: PeekableStream) -> BinaryIO:
    """A seekable copy of a pipe, in the temporary folder: Parquet and Arrow files end with their index."""
    copy = tempfile.TemporaryFile(prefix="fletching-")
    shutil.copyfileobj(tail, copy, 1 << 20)
    copy.seek(0)
    return copy
