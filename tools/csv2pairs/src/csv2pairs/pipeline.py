"""One run, from table to files: straight through, or by way of the disk.

Rows alone stream. Negatives, splits, partitions and --mode group need every example before the
first can be written: they are stored, then sampled, then written file by file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
from polars import col
from polars.selectors import by_name

from csv2pairs.keys import count_reasons, drop_by_reason
from csv2pairs.links import links_of, split_pairs
from csv2pairs.option_checks import roles_in
from csv2pairs.options import Options
from csv2pairs.outputs import OutputRows, PairTexts, plan_outputs
from csv2pairs.pairs import LEFT_OUT, PairBuilder
from csv2pairs.sampling import KEYS, PairSampler
from csv2pairs.stored_pairs import StoredPairs, frame_of
from csv2pairs.table import note_joined_lists
from fletching.io import AtomicOutputs, Writer
from fletching.io.tables import TableReader
from fletching.io.tables.reader import read_ahead
from fletching.report import Report
from fletching.table import GrowingKeySet, atomic

BLOCK_ROWS = 1 << 15
BLOCK_BYTES = 64 << 20
DRAWS_AT_ONCE = 1 << 22
WHOLE_CATEGORY = 1 << 14  # texts of a category, where that many are drawn for each row
REPEATED_IDS = "rows_with_an_id_seen_before"
SHORT = "rows_short_of_negatives"
WIDENED = "rows_widened_to_the_domain"


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
        self.builder = PairBuilder(options, report)
        self.output_rows = OutputRows(options)
        self.draws = options.negatives_per_row > 0 or options.mode == "group"
        # --group-positives 0 draws a whole category for each row.
        most_drawn = max(options.negatives_per_row, options.group_positives or WHOLE_CATEGORY)
        self.rows_at_once = max(1, DRAWS_AT_ONCE // most_drawn)

    def write(self) -> None:
        """Write all outputs; they appear together or not at all."""
        options = self.options
        paths = (options.output or "") + (options.texts_out or "")
        if self.draws or self.shares or roles_in(paths):
            with atomic.scratch_folder("csv2pairs") as folder:
                self._write_stored(folder)
            return
        with AtomicOutputs() as outputs:
            writer = self._rows_writer(options.output, outputs)
            texts = self._texts(options.texts_out, outputs) if options.texts_out else None
            for examples, _ in self._examples():
                _write(self.output_rows.rows(examples), writer)
                if texts is not None:
                    texts.write(examples)

    # --- reading ---

    def _examples(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Examples and positives of every block of rows, without repetitions; at least one."""
        contents, ids = GrowingKeySet(), GrowingKeySet()
        counts_ids = bool(self.options.id) and self.options.mode != "texts"
        repeated_ids = 0
        with self.report.progress("reading") as progress:
            for cells in self._cells():
                examples, positives = self.builder.pairs(cells)
                is_new = pl.Series(contents.add_new(examples["content"].to_numpy()))
                examples = drop_by_reason(examples, {"duplicate": ~pl.lit(is_new)}, self.report)
                if counts_ids:
                    of_rows = examples.filter(col.row.is_first_distinct())
                    repeated_ids += int((~ids.add_new(of_rows["id_link"].to_numpy())).sum())
                yield examples, positives
                progress.advance(len(cells))
        note_joined_lists(self.table, self.report)
        if left_out := self.report.measures.get(LEFT_OUT):
            self.report.note(
                f"{left_out:,} texts of --neg are left out: the query or a positive of their row, "
                "or a repetition"
            )
        if repeated_ids:
            self.report.measures[REPEATED_IDS] = repeated_ids
            self.report.note(
                f"{repeated_ids:,} rows repeat the id of an earlier row; they are kept, "
                "in one split with it, and never become each other's negatives"
            )

    def _cells(self) -> Iterator[pl.DataFrame]:
        """The table in blocks whose bounds depend on its rows alone; the last one may be empty."""
        waiting: list[pa.RecordBatch] = []
        for batch in self.table:
            waiting.append(batch)
            is_full = sum(map(len, waiting)) >= BLOCK_ROWS
            if is_full or sum(each.nbytes for each in waiting) >= BLOCK_BYTES:
                yield frame_of(pa.Table.from_batches(waiting))
                waiting = []
        yield frame_of(pa.Table.from_batches(waiting, self.table.schema))

    # --- by way of the disk ---

    def _write_stored(self, folder: str) -> None:
        options = self.options
        stored = StoredPairs(folder, drawn={"pos", options.negatives_from} if self.draws else set())
        in_paths = roles_in((options.output or "") + (options.texts_out or ""))
        stored_keys = by_name(*KEYS, "row_text", *in_paths, require_all=False)
        for block, positives in self._examples():
            stored.links.append(links_of(block, positives, options))
            for examples in [*block.iter_slices(self.rows_at_once)] or [block]:
                stored.append(self.output_rows.rows(examples), examples.select(stored_keys))
        splits = split_pairs(
            stored,
            self.shares,
            seed=options.seed,
            report=self.report,
        )
        is_kept = self._draw(stored, splits)
        with AtomicOutputs() as outputs:
            self._write_rows(
                stored,
                splits,
                is_kept=is_kept,
                outputs=outputs,
            )
            self._write_texts(stored, splits, outputs)

    def _draw(self, stored: StoredPairs, splits: pl.Series) -> pl.Series:
        """Store what each example draws; which examples are kept, (n,)."""
        if not self.draws:
            return pl.repeat(True, len(stored.keys), eager=True)
        ids_repeat = REPEATED_IDS in self.report.measures
        sampler = PairSampler(
            stored,
            splits,
            self.options,
            ids_repeat=ids_repeat,
        )
        kept = []
        short = widened = 0
        with self.report.progress("drawing", len(stored.keys)) as progress:
            for examples in stored.keys.frames():
                drawn = sampler.draw(examples)
                stored.drawn.append(drawn.select("positives", "negatives"))
                count_reasons(drawn["reason"], self.report)
                kept.append(drawn["reason"].is_null())
                short += int((kept[-1] & drawn["is_short"]).sum())
                widened += int((kept[-1] & drawn["is_widened"]).sum())
                progress.advance(len(drawn))
        if self.options.negatives_per_row:
            self._tell_shortfall(short, widened)
        return pl.concat(kept)

    def _tell_shortfall(self, short: int, widened: int) -> None:
        """Of the rows that are kept: how many have fewer, and how many have wider negatives."""
        self.report.measures |= {
            SHORT: short,
            WIDENED: widened,
        }
        if short:
            self.report.note(
                f"{short:,} rows have fewer than {self.options.negatives_per_row} negatives; "
                "--shortfall widen fills them, drop leaves them out"
            )
        if widened:
            self.report.note(f"{widened:,} rows have negatives from outside their category")

    def _write_rows(
        self,
        stored: StoredPairs,
        splits: pl.Series,
        *,
        is_kept: pl.Series,
        outputs: AtomicOutputs,
    ) -> None:
        path, split_names = self.options.output, list(self.shares)
        files, numbers = plan_outputs(
            path,
            stored.keys,
            splits,
            split_names=split_names,
        )
        if not files:
            self.report.note("the table has no rows, so there is no value to name a file by")
        with self.report.progress("writing", int(is_kept.sum())) as progress:
            for number, file in enumerate(files):
                writer = self._rows_writer(file.path, outputs)
                tables = self._drawn_rows(stored, is_kept & (numbers == number))
                for table in read_ahead(tables):
                    _write(table, writer)
                    progress.advance(len(table))
                if len(files) > 1:
                    self.report.note(f"{file.label}: {writer.rows:,} rows in {file.path}")
                    writer.complete()

    def _drawn_rows(self, stored: StoredPairs, is_wanted: pl.Series) -> Iterator[pa.Table]:
        """The rows wanted with what they drew."""
        tables = stored.rows.tables(is_wanted)
        if not self.draws:
            yield from tables
            return
        for table, drawn in zip(tables, stored.drawn.tables(is_wanted)):
            yield self.output_rows.with_draws(table, frame_of(drawn), stored.texts)

    def _write_texts(self, stored: StoredPairs, splits: pl.Series, outputs: AtomicOutputs) -> None:
        """--texts-out of stored pairs."""
        path = self.options.texts_out
        if not path:
            return
        files, numbers = plan_outputs(
            path,
            stored.keys,
            splits,
            split_names=list(self.shares),
        )
        blocks = stored.keys if self.options.texts_template else stored.rows
        for number, file in enumerate(files):
            texts = self._texts(file.path, outputs)
            for table in blocks.tables(numbers == number):
                texts.write(frame_of(table.select(texts.sources)))

    # --- the writers ---

    def _rows_writer(self, path: str | None, outputs: AtomicOutputs) -> Writer:
        rows = self.output_rows
        writer = Writer(
            self.report,
            path,
            schema=rows.schema,
            columns=rows.columns,
            **self.provenance,
        )
        return outputs.add(writer)

    def _texts(self, path: str | None, outputs: AtomicOutputs) -> PairTexts:
        writer = Writer(
            self.report,
            path,
            schema="texts",
            columns=PairTexts.columns,
            count=False,
            **self.provenance,
        )
        return PairTexts(outputs.add(writer), self.options)


def _write(table: pa.Table, writer: Writer) -> None:
    for batch in table.to_batches():
        writer.write(batch)
