"""The file formats that are read and written: a module of this package registers its own.

A new format is one module beside this one that ends, for example, with

    INPUT_FORMATS.register("orc", InputFormat(magic=b"ORC", extensions=(".orc",), open=OrcFile))
    OUTPUT_FORMATS.register("orc", OutputFormat(extensions=(".orc",), create=OrcSink))

`Reader`, `Writer`, the listing of folders and the error messages read the registries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from fletching.protocols import RowSink, RowSource
from fletching.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching.schema import Schema

COMPRESSED = (".gz", ".zst")
MAGIC_BYTES = 8  # the most that `detect` looks at

# The names of contents that have no magic bytes.
TEXT = "text"
EMPTY = "empty"

STDOUT_JSONL = "-.jsonl"  # as an output: JSON lines on stdout


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """A file format that can be read.

    extensions: of the files in a folder that are data; a compressed file may add .gz or .zst.
    magic: the first bytes of each file; b"" for a text format, which is known by its extension.
    needs_seek: is the file read from its end? Then `open` gets a seekable file, else a
    PeekableStream.
    empty_extensions: files of 0 bytes with such a name hold no rows; others are an error.
    open: (file, its name in errors, the schema that gives known columns their types) to rows.
    """

    extensions: tuple[str, ...]
    open: Callable[[Any, str, Schema], RowSource]
    magic: bytes = b""
    needs_seek: bool = False
    empty_extensions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """A file format that can be written.

    extensions: of its files. create: (open file, path, columns with their metadata) to a sink.
    """

    extensions: tuple[str, ...]
    create: Callable[[BinaryIO, str, pa.Schema], RowSink]


INPUT_FORMATS = Registry[InputFormat]("input format", package="fletching.io")
OUTPUT_FORMATS = Registry[OutputFormat]("output format", package="fletching.io")


def input_extensions() -> tuple[str, ...]:
    """Of the files that a folder of data may hold, without those of compression."""
    return _sorted_extensions(INPUT_FORMATS)


def output_extensions() -> tuple[str, ...]:
    """Of the files that can be written."""
    return _sorted_extensions(OUTPUT_FORMATS)


def _sorted_extensions(formats: Registry[InputFormat] | Registry[OutputFormat]) -> tuple[str, ...]:
    extensions: set[str] = set()
    for entry in formats.values():
        extensions.update(entry.extensions)
    return tuple(sorted(extensions))


def detect(head: bytes) -> str:
    """The name of the input format with these first bytes, else TEXT or EMPTY."""
    for name, entry in INPUT_FORMATS.items():
        if entry.magic and head.startswith(entry.magic):
            return name
    return TEXT if head else EMPTY


def text_format(path: str | None) -> InputFormat:
    """The text format of a path by its extension; JSON lines for others and for stdin (None)."""
    stem = without_compression(path or "")
    for entry in INPUT_FORMATS.values():
        if not entry.magic and stem.endswith(entry.extensions):
            return entry
    return INPUT_FORMATS["jsonl"]


def may_be_empty(path: str | None) -> bool:
    """Does a file of 0 bytes under this name hold no rows?"""
    extensions = text_format(path).empty_extensions
    return without_compression(path or "").endswith(extensions)


def output_format(path: str | None) -> OutputFormat:
    """The format of a path by its extension; an Arrow stream for a pipe (None)."""
    if path is not None:
        for entry in OUTPUT_FORMATS.values():
            if path.endswith(entry.extensions):
                return entry
    return OUTPUT_FORMATS["arrow-stream"]


def without_compression(name: str) -> str:
    """A file name in lower case, without .gz or .zst."""
    name = name.lower()
    for extension in COMPRESSED:
        name = name.removesuffix(extension)
    return name
