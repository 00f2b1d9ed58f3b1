"""The writers of a run: every output has the same lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from csv2pairs.writing.unique_texts import plain_columns
from fletching.io import Writer
from fletching.io.tables import TableReader
from fletching.report import Report


class OutputWriters:
    """Makes a `Writer` for each output of a run.

    version, row_options: of the lineage; row_options are the options that can change rows.
    """

    def __init__(
        self, table: TableReader, report: Report, *, version: str, row_options: Mapping[str, Any]
    ) -> None:
        self.report = report
        self.lineage: dict[str, Any] = {
            "version": version,
            "options": dict(row_options),
            "sources": [table],
        }

    def examples(self, path: str | None, columns: pa.Schema) -> Writer:
        """A file of `examples`, or a stream on stdout."""
        return self._writer(path, "examples", columns)

    def texts(self, path: str | None, columns: pa.Schema) -> Writer:
        """The `texts` of --mode texts."""
        return self._writer(path, "texts", columns)

    def side_texts(self, path: str) -> Writer:
        """The `texts` of --texts-out: its rows are not those of the account."""
        return self._writer(path, "texts", plain_columns(), count=False)

    def _writer(
        self, path: str | None, schema: str, columns: pa.Schema, *, count: bool = True
    ) -> Writer:
        return Writer(
            self.report, path, schema=schema, columns=columns, count=count, **self.lineage
        )
