"""How many rows drew fewer negatives than requested, or were dropped for it."""

from __future__ import annotations

from csv2pairs.array_types import Mask
from csv2pairs.options import Options
from csv2pairs.pairing.sampling import SampledBlock
from fletching.report import Report

SHORT = "rows_short_of_negatives"
WIDENED = "rows_widened_to_the_domain"


class SamplingAccount:
    """Counts the rows of sampled blocks into the report."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report

    def count(self, block: SampledBlock) -> None:
        """Add the rows of a block. Once for each block of the run."""
        for reason, rows in block.dropped.items():
            self.report.drop(reason, int(rows.sum()))
        if self.options.negatives_per_row:
            self._measure(SHORT, block.is_short & block.keep)
            self._measure(WIDENED, block.is_widened & block.keep)

    def _measure(self, name: str, rows: Mask) -> None:
        before = self.report.measures.get(name, 0)
        self.report.measures[name] = before + int(rows.sum())

    def note_shortfall(self) -> None:
        """Tell the user of rows that are written with fewer or with wider negatives."""
        short = self.report.measures.get(SHORT)
        if short:
            self.report.note(
                f"{short:,} rows have fewer than {self.options.negatives_per_row} negatives; "
                "--shortfall widen fills them, drop leaves them out"
            )
        widened = self.report.measures.get(WIDENED)
        if widened:
            self.report.note(f"{widened:,} rows have negatives from outside their category")
