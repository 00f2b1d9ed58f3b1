"""The table formats: each is recognised and opened by one module, which registers itself.

To add a format, add a module to this package that defines an `OpenTable` and ends with

    TABLE_FORMATS.register("name", TableFormat(...))

It is discovered: nothing else has to name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from fletching.errors import InputError
from fletching.io.sources import Source
from fletching.io.streams import PeekableStream
from fletching.io.tables.table_input import TableInput
from fletching.io.tables.table_options import CellKind, TableOptions
from fletching.protocols import Lineage
from fletching.registry import Registry
from fletching.report import Report

if TYPE_CHECKING:
    import pyarrow as pa


class OpenTable(Protocol):
    """An input opened by its format."""

    @property
    def columns(self) -> list[str] | None:
        """The names of its columns; None as long as they are not known."""

    @property
    def lineage_node(self) -> Lineage | None:
        """The lineage of the rows; None for formats that carry none."""

    @property
    def ends(self) -> list[Lineage]:
        """What is known at the end: rows, digest, drops."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows with the columns read, as far as the table has them; lists and numbers too.

        Raises InputError on damage.
        """


class DetectedBy(IntEnum):
    """How a format is recognised; formats are tried in this order."""

    SIGNATURE = 0  # first bytes that no text begins with; nothing has to be decoded
    TEXT = 1  # how the decoded text begins
    DEFAULT = 2  # any text that no other format matches


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """One format: its file names, how it is recognised, how it is opened.

    extensions: which files of a folder are such tables.
    matches: may look at the input, must not read from it. has_lineage: do its files carry lineage?
    """

    extensions: tuple[str, ...]
    detected_by: DetectedBy
    matches: Callable[[TableInput], bool]
    open: Callable[[TableInput], OpenTable]
    has_lineage: bool = False


TABLE_FORMATS: Registry[TableFormat] = Registry("table format", package="fletching.io.tables")


def open_table(
    source: Source,
    options: TableOptions,
    report: Report,
    *,
    columns: Mapping[str, CellKind] | None = None,
    stream: PeekableStream | None = None,
) -> OpenTable:
    """One input as a table, whatever its format.

    columns: those to read, each with what its cells become; None: all of them, as text.
    stream: the source where it is open already, decompressed and unread.
    Raises InputError where it is empty, damaged or of no known format.
    """
    table_input = TableInput(source, options, report, columns=columns, stream=stream)
    if table_input.is_empty:
        fix = "a table has at least a header line"
        if source.path is None:
            fix += "; in a pipe, look at the first error above, of the program before this one"
        raise InputError(f"{source.where} is empty (0 bytes)", fix)
    return detect_format(table_input).open(table_input)


def formats_in_order() -> list[TableFormat]:
    """All formats, the most certain to recognise first."""
    return sorted(TABLE_FORMATS.values(), key=lambda each: each.detected_by)


def format_by_signature(table: TableInput) -> TableFormat | None:
    """The format whose signature the input has, without decoding anything."""
    for table_format in formats_in_order():
        if table_format.detected_by is DetectedBy.SIGNATURE and table_format.matches(table):
            return table_format
    return None


def detect_format(table: TableInput) -> TableFormat:
    """The format of an input. Raises InputError."""
    for table_format in formats_in_order():
        if table_format.matches(table):
            return table_format
    raise InputError(
        f"{table.where} is not a table of a known format", "pass " + ", ".join(TABLE_FORMATS)
    )


def file_extensions() -> tuple[str, ...]:
    """Which files of a folder are tables."""
    extensions = (name for each in formats_in_order() for name in each.extensions)
    return tuple(dict.fromkeys(extensions))
