"""What simfilter writes: the rows that stay, as rows or as pairs, and the rejects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from fletching.io import AtomicOutputs, Reader, Writer
from fletching.report import Report
from simfilter.options import Options
from simfilter.row_filter import PAIRS, REASON, FilteredRows


class FilterOutputs:
    """The output and, with --rejects, the file of dropped rows; they appear together.

    columns: of scored rows. lineage_options: the options that decide the rows.
    """

    def __init__(
        self,
        together: AtomicOutputs,
        *,
        columns: pa.Schema,
        options: Options,
        report: Report,
        version: str,
        lineage_options: dict[str, Any],
        sources: Sequence[Reader],
    ) -> None:
        self.options = options
        self.report = report
        self.rows_seen = 0
        self.rows_kept = 0
        lineage: dict[str, Any] = {
            "version": version,
            "options": lineage_options,
            "sources": sources,
        }
        out_columns = PAIRS if options.as_pairs else columns
        self.out = together.add(
            Writer(report, options.output, "examples", columns=out_columns, **lineage)
        )
        self.rejects: Writer | None = None
        if options.rejects:
            reject_columns = columns.append(REASON)
            writer = Writer(
                report,
                options.rejects,
                "examples",
                columns=reject_columns,
                count=False,
                **lineage,
            )
            self.rejects = together.add(writer)

    def write(self, rows: FilteredRows) -> None:
        """Write one unit."""
        self.rows_seen += len(rows.kept) + len(rows.dropped)
        self.rows_kept += len(rows.kept)
        if self.options.as_pairs:
            self.report.add("further positives of a row", len(rows.pairs) - len(rows.kept))
            self.out.write(rows.pairs)
        else:
            self.out.write(rows.kept)
        if self.rejects is not None:
            self.rejects.write(rows.dropped)

    def warn_if_most_are_dropped(self) -> None:
        """Tell the user when the criteria drop more than half of the rows."""
        if 2 * self.rows_kept < self.rows_seen:
            share = 1 - self.rows_kept / self.rows_seen
            self.report.note(
                f"{share:.0%} of the rows are dropped: does the model know their language? "
                "--score-only shows the scores first"
            )
