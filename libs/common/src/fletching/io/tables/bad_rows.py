"""What happens to a row that cannot be read: an error, or a drop that is counted and named."""

from __future__ import annotations

from fletching.errors import InputError
from fletching.io.tables.table_options import TableOptions
from fletching.report import Report

NAMED = 5  # how many dropped rows of a file the report names one by one


class BadRows:
    """The bad rows of one file, treated as `TableOptions.bad_rows` says."""

    def __init__(self, options: TableOptions, report: Report) -> None:
        self.refuse = options.bad_rows == "refuse"
        self.report = report
        self.named = 0

    def reject(self, what: str, reason: str, *, fix: str) -> None:
        """Drop a row for this reason. Raises InputError where bad rows are refused.

        what: names the file, the row and the value. fix: the first half of the advice.
        """
        if self.refuse:
            raise InputError(what, f"{fix}, or leave such rows out by --bad-rows drop")
        self.report.rows_in += 1
        self.report.drop(reason)
        self.named += 1
        if self.named <= NAMED:
            self.report.note(f"dropped {what}")
