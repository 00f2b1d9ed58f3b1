"""The registry of row formats and what each entry states."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fletching.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching.protocols import RowSource
    from fletching.schema import Schema


class Batches(Protocol):
    """Rows of `examples` that can be read more than once: a list of batches, a `DiskTable`."""

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


@dataclass
class WriteAccount:
    """What became of rows that were written in another format.

    rows: of `examples` that were read. records: written, in the terms of the format: rows, lines,
    judgements. not_carried: how many values or rows the format has no way to say, by what they are.
    """

    rows: int = 0
    records: int = 0
    not_carried: Counter[str] = field(default_factory=Counter)


class FolderLayout(Protocol):
    """A data set of several files that are read as one table."""

    def matches(self, path: str) -> bool:
        """Is this path, a folder or one of its files, such a data set? Looks at names alone."""

    def open(self, path: str, schema: Schema) -> RowSource:
        """Its rows of the schema: `examples`, or the documents as `texts`. Raises InputError."""


Detection = Callable[["pa.Schema"], bool]
Conversion = Callable[["pa.RecordBatch"], "pa.RecordBatch"]
Output = Callable[[Batches, str], WriteAccount]


def never(columns: pa.Schema) -> bool:
    """The detection of formats that are no table with columns of their own."""
    return False


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """How one program or data set lays out training rows.

    name: for `--to`. summary: whose format it is. columns: as its documentation states them.
    becomes: what they are read as. detect: are these its columns (in canonical types)?
    to_examples: its batches as rows of `examples`, unknown columns kept; None where the names
    alone differ, which are aliases of the contract. from_examples: write rows to a path; None
    where the format is read only. folder: how to read it where one data set is a folder.
    """

    name: str
    summary: str
    columns: str
    becomes: str
    detect: Detection = never
    to_examples: Conversion | None = None
    from_examples: Output | None = None
    folder: FolderLayout | None = None

    @property
    def is_folder(self) -> bool:
        """Is one data set a folder of several files?"""
        return self.folder is not None


ROW_FORMATS = Registry[RowFormat]("row format", package="fletching.io.row_formats")


def register(row_format: RowFormat) -> None:
    """Add a format under its name."""
    ROW_FORMATS.register(row_format.name, row_format)


@functools.lru_cache(maxsize=8)  # the files of a folder have equal columns
def detect_row_format(columns: pa.Schema) -> RowFormat | None:
    """The format with these columns that must be converted; None where they are read as they are.

    At most one fits: a detection names the column that makes its format unlike the others.
    """
    for row_format in ROW_FORMATS.values():
        if row_format.to_examples is not None and row_format.detect(columns):
            return row_format
    return None


def detect_folder(path: str) -> FolderLayout | None:
    """The layout of a data set that lies in several files at this path."""
    layouts = [row_format.folder for row_format in ROW_FORMATS.values()]
    return next((layout for layout in layouts if layout and layout.matches(path)), None)
