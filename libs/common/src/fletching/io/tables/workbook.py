"""Sheets of Excel and OpenDocument workbooks, by the extra `excel` (python-calamine)."""

from __future__ import annotations

import datetime
import io
import itertools
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from fletching.column_names import first_repeated
from fletching.errors import InputError, UsageError
from fletching.io.tables.registry import TABLE_FORMATS, DetectedBy, TableFormat
from fletching.io.tables.table_input import TableInput
from fletching.protocols import Lineage

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

ROWS = 8192
ZIP = b"PK\x03\x04"
COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Excel before 2007
WORKBOOK_PARTS = ("xl/", "content.xml")  # of Excel, of OpenDocument

Value: TypeAlias = "str | int | float | bool | datetime.date | datetime.time | datetime.timedelta"


class WorkbookTable:
    """The rows of one sheet: the first row that is not empty names the columns."""

    lineage_node = None

    def __init__(self, table: TableInput) -> None:
        self.where = table.where
        self.options = table.options
        content = table.spooled().read()
        workbook = self._open(content)
        self.sheet = self._choose_sheet(table, workbook.sheet_names)
        rows = iter(self._read_sheet(workbook))
        self.rows: Iterator[list[Value]] = (
            row for row in rows if any(value != "" for value in row)
        )
        first_row = next(self.rows, [])
        self.names = list(self.options.columns) or self._header(first_row)
        if self.options.columns and first_row:
            self._check_width(len(first_row))
            self.rows = itertools.chain([first_row], self.rows)
        wanted = self.names if table.columns is None else table.columns
        self.positions = [i for i, name in enumerate(self.names) if name in wanted]

    def _open(self, content: bytes) -> CalamineWorkbook:
        try:
            from python_calamine import CalamineError, CalamineWorkbook
        except ImportError:
            raise InputError(
                f"{self.where} is a workbook (Excel or OpenDocument), not a CSV",
                "save it as CSV, or install the reader: pip install 'fletching[excel]'",
            ) from None
        try:
            return CalamineWorkbook.from_filelike(io.BytesIO(content))
        except CalamineError as error:
            raise self._unreadable(error) from None

    def _read_sheet(self, workbook: CalamineWorkbook) -> list[list[Value]]:
        """All rows of the sheet. Raises InputError where it is damaged."""
        from python_calamine import CalamineError

        try:
            return workbook.get_sheet_by_name(self.sheet).to_python(skip_empty_area=True)
        except CalamineError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"{self.where} is no readable workbook ({error})", "save it as CSV")

    def _choose_sheet(self, table: TableInput, names: list[str]) -> str:
        sheet = self.options.sheet or next(iter(names), None)
        if sheet not in names:
            shown = ", ".join(names) or "no sheet"
            raise UsageError(f"{self.where} has no sheet {sheet!r}; it has {shown}", "name a sheet")
        if len(names) > 1 and self.options.sheet is None:
            others = ", ".join(name for name in names if name != sheet)
            table.report.note(f"{self.where}: sheet {sheet} is read, not {others}; --sheet decides")
        return sheet

    def _check_width(self, cells: int) -> None:
        names = len(self.options.columns)
        if names != cells:
            raise UsageError(
                f"{self.where}: {names} names in --columns for {cells} columns of {self.sheet}",
                "name each column of the sheet",
            )

    def _header(self, row: list[Value]) -> list[str]:
        names = [_as_text(value) for value in row]
        repeated = first_repeated(filter(None, names))
        if repeated is not None:
            raise InputError(
                f"{self.where}: the header has the column `{repeated}` twice", "rename one of them"
            )
        return names

    @property
    def columns(self) -> list[str] | None:
        """The names of the header, or of `TableOptions.columns`."""
        return self.names

    @property
    def ends(self) -> list[Lineage]:
        """Nothing is known."""
        return [{}]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The columns read; an empty cell is an empty text."""
        names = [self.names[position] for position in self.positions]
        while block := list(itertools.islice(self.rows, ROWS)):
            arrays = [
                pa.array([_as_text(row[position]) for row in block], pa.string())
                for position in self.positions
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=names)


def _as_text(value: Value) -> str:
    """A cell as Excel shows it without a format: 7 and not 7.0, dates as ISO 8601."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return str(value)


def is_workbook(table: TableInput) -> bool:
    """Is it an archive with the parts of a workbook? Raises InputError for other archives."""
    if table.head(8) == COMPOUND_FILE:
        return True
    if table.head(4) != ZIP:
        return False
    copy = table.spooled()
    try:
        names = zipfile.ZipFile(copy).namelist()
    except zipfile.BadZipFile:
        names = []
    copy.seek(0)
    if any(name.startswith(WORKBOOK_PARTS) for name in names):
        return True
    raise InputError(f"{table.where} is a ZIP archive, not a table", "unpack it first")


TABLE_FORMATS.register(
    "Excel or OpenDocument",
    TableFormat(
        extensions=(".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
        detected_by=DetectedBy.SIGNATURE,
        matches=is_workbook,
        open=WorkbookTable,
    ),
)
