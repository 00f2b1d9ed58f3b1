"""One run, from table to files: straight through, or by way of the disk.

Rows alone stream. Negatives, splits, partitions and --mode group need every example before the
first can be written: they are stored, then sampled, then written file by file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
from polars import DataFrame, Series
from polars.selectors import by_name

from csv2pairs.examples import ExampleBuilder
from csv2pairs.keys import count_reasons
from csv2pairs.links import links_of, split_pairs
from csv2pairs.option_checks import ROLES, roles_in
from csv2pairs.options import Options
from csv2pairs.outputs import OutputRows, OutputTexts, plan_outputs
from csv2pairs.sampling import KEYS, PairSampler
from csv2pairs.stored_pairs import StoredPairs
from csv2pairs.table import note_joined_lists
from fletching.io import AtomicOutputs, Writer
from fletching.io.tables import TableReader
from fletching.io.tables.reader import read_ahead
from fletching.report import Report
from fletching.table import atomic

Output = OutputRows | OutputTexts
Kind = type[OutputRows] | type[OutputTexts]
BLOCK_ROWS = 1 << 15
BLOCK_BYTES = 64 << 20
DRAWS_AT_ONCE = 1 << 22
WHOLE_CATEGORY = 1 << 14  # texts of a category, where that many are drawn for each row


class PairPipeline:
    """The table's rows as `examples`, and with --texts-out their texts; or as `texts`.

    shares: of the splits, by name; {} without --split.
    """

    def __init__(
        self,
        table: TableReader,
        options: Options,
        report: Report,
        *,
        shares: Mapping[str, float],
        provenance: dict[str, Any],
    ) -> None:
        self.table = table
        self.options = options
        self.report = report
        self.shares = shares
        self.provenance = provenance
        self.drawn = {"pos": "pos"} if options.mode == "group" else {}
        if options.negatives_per_row:
            self.drawn["neg"] = options.negatives_from
        self.paths: dict[Kind, str] = {OutputRows: options.output or ""}
        if options.texts_out:
            self.paths[OutputTexts] = options.texts_out

    def write(self) -> None:
        """Write all outputs; they appear together or not at all."""
        if self.drawn or self.shares or roles_in("".join(self.paths.values())):
            with atomic.scratch_folder("csv2pairs") as folder:
                self._write_stored(folder)
            return
        with AtomicOutputs() as outputs:
            files = [self._open(kind, path, outputs) for kind, path in self.paths.items()]
            for examples, _ in self._blocks():
                for rows, writer in files:
                    _write(rows.table(examples), writer)

    # --- reading ---

    def _blocks(self) -> Iterator[tuple[DataFrame, DataFrame]]:
        """Examples and positives of every block of rows, without repetitions; at least one."""
        builder = ExampleBuilder(self.options, self.report)
        with self.report.progress("reading") as progress:
            for cells in self._cells():
                yield builder.examples(cells)
                progress.advance(len(cells))
        note_joined_lists(self.table, self.report)
        builder.note_counts()

    def _cells(self) -> Iterator[DataFrame]:
        """The table in blocks whose bounds depend on its rows alone; the last one may be empty."""
        waiting: list[pa.RecordBatch] = []
        for batch in self.table:
            waiting.append(batch)
            is_full = sum(map(len, waiting)) >= BLOCK_ROWS
            if is_full or sum(each.nbytes for each in waiting) >= BLOCK_BYTES:
                yield DataFrame(pa.Table.from_batches(waiting))
                waiting = []
        yield DataFrame(pa.Table.from_batches(waiting, self.table.schema))

    # --- by way of the disk ---

    def _write_stored(self, folder: str) -> None:
        options = self.options
        stored = StoredPairs(folder, self.drawn)
        texts = ("query", "pos", "row_text")
        needed = [*KEYS, *texts, *ROLES, *OutputRows(options).sources]
        # --group-positives 0 draws a whole category for each row.
        most_drawn = max(options.negatives_per_row, options.group_positives or WHOLE_CATEGORY)
        rows_at_once = max(1, DRAWS_AT_ONCE // most_drawn)
        for examples, positives in self._blocks():
            links = links_of(examples, positives, options)
            columns = examples.select(by_name(*needed, require_all=False))
            stored.append(columns, links, at_once=rows_at_once)
        seed = options.seed
        stored.splits = split_pairs(
            stored,
            self.shares,
            seed=seed,
            report=self.report,
        )
        stored.is_kept = self._draw(stored)
        with AtomicOutputs() as outputs:
            for kind in self.paths:
                self._write_files(stored, kind, outputs)

    def _draw(self, stored: StoredPairs) -> Series:
        """Store what each example draws; which examples are kept, (n,)."""
        if not self.drawn:
            return pl.repeat(True, len(stored.examples), eager=True)
        sampler = PairSampler(stored, self.options)
        kept = []
        short = widened = 0
        with self.report.progress("drawing", len(stored.examples)) as progress:
            for examples in stored.examples.frames(*KEYS):
                drawn = sampler.draw(examples)
                stored.draws.append(drawn)
                count_reasons(drawn["reason"], self.report)
                kept.append(drawn["reason"].is_null())
                short += int((kept[-1] & drawn["is_short"]).sum())
                widened += int((kept[-1] & drawn["is_widened"]).sum())
                progress.advance(len(drawn))
        if self.options.negatives_per_row:
            self._note_shortfall(short, widened)
        return pl.concat(kept)

    def _note_shortfall(self, short: int, widened: int) -> None:
        """Of the rows that are kept: how many have fewer, and how many have wider negatives."""
        self.report.measures |= {
            "rows_short_of_negatives": short,
            "rows_widened_to_the_domain": widened,
        }
        if short:
            self.report.note(
                f"{short:,} rows have fewer than {self.options.negatives_per_row} negatives; "
                "--shortfall widen fills them, drop leaves them out"
            )
        if widened:
            self.report.note(f"{widened:,} rows have negatives from outside their category")

    def _write_files(self, stored: StoredPairs, kind: Kind, outputs: AtomicOutputs) -> None:
        """Write the files of -o or of --texts-out one after the other."""
        files, numbers = plan_outputs(self.paths[kind], stored, list(self.shares))
        if kind is OutputRows and not files:
            self.report.note("the table has no rows, so there is no value to name a file by")
        with self.report.progress("writing", len(stored.examples)) as progress:
            for number, (label, path) in enumerate(files):
                rows, writer = self._open(kind, path, outputs)
                for table in read_ahead(rows.stored_tables(stored, numbers == number)):
                    _write(table, writer)
                    progress.advance(len(table))
                if len(files) > 1:
                    writer.complete()
                if len(files) > 1 and writer.count:
                    self.report.note(f"{label}: {writer.rows:,} rows in {path}")

    def _open(self, kind: Kind, path: str, outputs: AtomicOutputs) -> tuple[Output, Writer]:
        rows = kind(self.options)
        writer = Writer(
            self.report,
            path or None,
            schema=rows.schema,
            columns=rows.columns,
            count=rows.is_counted,
            **self.provenance,
        )
        return rows, outputs.add(writer)


def _write(table: pa.Table, writer: Writer) -> None:
    for batch in table.to_batches():
        writer.write(batch)
