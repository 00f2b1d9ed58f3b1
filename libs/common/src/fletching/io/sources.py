"""From the arguments (paths, folders, globs, URLs, stdin) to open inputs of a known format."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from fletching.errors import InputError, UsageError
from fletching.io.formats import MAGIC_BYTES, detect, input_extensions, without_compression
from fletching.io.streams import PeekableStream, Readable, decompress, spool

__all__ = ["PeekableStream", "Source", "resolve", "sniff", "spool"]


@dataclass
class Source:
    """One input.

    where: its name in errors. path: a path or URL; None is stdin.
    """

    where: str
    path: str | None

    def open(self) -> BinaryIO:
        """The file at its first byte. Raises InputError."""
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
            what = f"{self.where} cannot be opened: {reason}"
            raise InputError(what, "check the path and its rights") from None


def resolve(inputs: Sequence[str], extensions: tuple[str, ...] = ()) -> list[Source]:
    """The sources that the arguments name, in the order given; inside a folder or glob by name.

    extensions: which files of a folder are data; without any, those of the input formats.
    Raises UsageError or InputError where nothing can be read.
    """
    if not inputs or list(inputs) == ["-"]:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "nothing to read: no file is named and stdin is a terminal",
                "name a file, or pipe another tool into this one",
            )
        return [Source("stdin", None)]
    if "-" in inputs:
        what = "- (stdin) is combined with other inputs"
        raise UsageError(what, "name files alone, or stdin alone")
    paths = [path for name in inputs for path in _expand(name, extensions or input_extensions())]
    return [Source(path, path) for path in paths]


def _expand(name: str, extensions: tuple[str, ...]) -> list[str]:
    """The paths or URLs that one argument names."""
    if "://" in name:
        return _glob_url(name) if glob.has_magic(name) else [name]
    if os.path.isdir(name):
        entries = sorted(entry for entry in os.listdir(name) if _is_data(entry, extensions))
        if not entries:
            what = f"{name} holds no {', '.join(extensions)} file"
            raise InputError(what, "name a folder of data files")
        return [os.path.join(name, entry) for entry in entries]
    if glob.has_magic(name) and not os.path.exists(name):
        return _checked_matches(glob.glob(name, recursive=True), name)
    return [name]


def _is_data(entry: str, extensions: tuple[str, ...]) -> bool:
    return without_compression(entry).endswith(extensions) and not entry.startswith((".", "_"))


def _open_url(url: str) -> BinaryIO:
    import fsspec

    return cast(BinaryIO, fsspec.open(url, "rb").open())


def _glob_url(pattern: str) -> list[str]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(pattern)
    # Unlike a local glob, fsspec's matches hidden files, such as outputs that are being written.
    names = [name for name in filesystem.glob(path) if not os.path.basename(name).startswith(".")]
    return _checked_matches([filesystem.unstrip_protocol(name) for name in names], pattern)


def _checked_matches(paths: list[str], pattern: str) -> list[str]:
    """The paths in order. Raises InputError where there is none."""
    if not paths:
        raise InputError(f"no file matches {pattern}", "check the pattern")
    return sorted(paths)


def sniff(raw: Readable, where: str = "the input") -> tuple[str, PeekableStream]:
    """(the name of the input format by content, the file from its first byte on, decompressed)."""
    stream = PeekableStream(raw)
    while (decompressed := decompress(stream, where)) is not None:
        stream = decompressed
    return detect(stream.peek(MAGIC_BYTES)), stream
