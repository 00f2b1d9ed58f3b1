"""One run, from table to files: straight through, or by way of the disk.

Rows alone stream. Negatives, splits, partitions and --mode group need every example before the
first can be written: they are stored, then sampled and written a block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa

from csv2pairs.options import Options
from csv2pairs.output_rows import OutputRows, PairTexts, one_batch
from csv2pairs.pairs import LEFT_OUT, PairBuilder
from csv2pairs.partition import OutputFile, plan_outputs
from csv2pairs.reasons import drop_by_reason
from csv2pairs.sampling import KEYS, PairSampler, SamplingAccount
from csv2pairs.splitting import split_pairs
from csv2pairs.stored_pairs import StoredPairs
from csv2pairs.table import note_joined_lists
from csv2pairs.writers import BackgroundWriter, OutputWriters
from fletching.io import AtomicOutputs
from fletching.io.tables import TableReader
from fletching.report import Report
from fletching.table import GrowingKeySet, atomic

BLOCK_ROWS = 1 << 16
BLOCK_BYTES = 64 << 20
REPEATED_IDS = "rows_with_an_id_seen_before"
ROLES = ("{domain}", "{category}")
ROW = "row:"  # of the columns of the output


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
        writers: OutputWriters,
    ) -> None:
        self.table = table
        self.options = options
        self.report = report
        self.shares = shares
        self.writers = writers
        self.builder = PairBuilder(options, report)
        self.output_rows = OutputRows(options)

    def write(self) -> None:
        """Write all outputs; they appear together or not at all."""
        options = self.options
        paths = (options.output or "") + (options.texts_out or "")
        is_in_parts = bool(self.shares) or any(role in paths for role in ROLES)
        if not (options.negatives_per_row or options.mode == "group" or is_in_parts):
            self._write_straight()
            return
        with atomic.scratch_folder("csv2pairs") as folder:
            drawn = None
            if options.negatives_per_row or options.mode == "group":
                drawn = ROW + ("query" if options.negatives_from == "query" else "pos")
            blocks = map(self._stored, self._examples())
            self._write_stored(StoredPairs(blocks, folder, drawn=drawn))

    def _examples(self) -> Iterator[pl.DataFrame]:
        """The examples of every block of rows, without repetitions; at least one block."""
        contents = GrowingKeySet()
        ids = GrowingKeySet()
        repeated_ids = 0
        counts_ids = bool(self.options.id) and self.options.mode != "texts"
        with self.report.progress("reading") as progress:
            for cells in self._cells():
                examples = self.builder.pairs(cells)
                is_new = pl.Series(contents.add_new(examples["content"].to_numpy()))
                examples = drop_by_reason(
                    examples,
                    {"duplicate": ~pl.lit(is_new)},
                    self.report,
                )
                if counts_ids:
                    of_rows = examples.filter(pl.col("row").is_first_distinct())
                    repeated_ids += int((~ids.add_new(of_rows["id_link"].to_numpy())).sum())
                yield examples
                progress.advance(len(cells))
        note_joined_lists(self.table, self.report)
        left_out = self.report.measures.get(LEFT_OUT)
        if left_out:
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
                yield _frame(waiting, self.table.schema)
                waiting = []
        yield _frame(waiting, self.table.schema)

    # --- rows alone ---

    def _write_straight(self) -> None:
        options = self.options
        columns = self.output_rows.columns
        writer = self.writers.open(
            options.output,
            self.output_rows.schema,
            columns,
        )
        with AtomicOutputs(writer) as outputs:
            texts = self._texts(options.texts_out, outputs) if options.texts_out else None
            for examples in self._examples():
                writer.write(one_batch(self.output_rows.rows(examples)))
                if texts is not None:
                    texts.write(examples)

    def _texts(self, path: str | None, outputs: AtomicOutputs) -> PairTexts:
        writer = self.writers.open(path, "texts", PairTexts.columns, count=False)
        return PairTexts(outputs.add(writer), self.options)

    # --- with negatives, splits or partitions ---

    def _stored(self, examples: pl.DataFrame) -> pa.Table:
        """What is needed of examples: their output rows as `row:NAME`, keys, names of files."""
        rows = self.output_rows.rows(examples)
        names = [*KEYS, "query_key", "pos_keys", "id_link", "split_links"]
        names += [role for role in ("domain", "category") if getattr(self.options, role)]
        names += ["row_text"] if self.options.texts_template else []
        present = [name for name in names if name in examples.columns]
        stored = examples.select(present).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        for name, column in zip(rows.schema.names, rows.columns):
            stored = stored.append_column(ROW + name, column)
        return stored

    def _write_stored(self, pairs: StoredPairs) -> None:
        options = self.options
        splits = split_pairs(
            pairs,
            self.shares,
            options=options,
            report=self.report,
        )
        ids_repeat = REPEATED_IDS in self.report.measures
        sampler = PairSampler(pairs, splits, options, ids_repeat=ids_repeat)
        account = SamplingAccount(options, self.report)
        names = list(self.shares)
        files = plan_outputs(options.output, pairs, splits, split_names=names)
        if not files:
            self.report.note("the table has no rows, so there is no value to name a file by")
        drops_rows = options.mode == "group" or options.shortfall == "drop"
        if len(files) > 1 and drops_rows:
            # A footer states the drops of the whole run: they are counted before a file ends.
            for file in files:
                for _, drawn in self._drawn(file, pairs, sampler):
                    account.count(drawn)
            account.is_complete = True
        with AtomicOutputs() as outputs, self.report.progress("writing", len(pairs)) as progress:
            for file in files:
                schema, columns = self.output_rows.schema, self.output_rows.columns
                writer = outputs.add(self.writers.open(file.path, schema, columns))
                with BackgroundWriter(writer) as background:
                    for rows, drawn in self._drawn(file, pairs, sampler):
                        account.count(drawn)
                        background.write(self.output_rows.drawn_rows(rows, drawn, pairs))
                        progress.advance(len(drawn))
                if len(files) > 1:
                    self.report.note(f"{file.label}: {writer.rows:,} rows in {file.path}")
                    writer.complete()
            self._write_stored_texts(pairs, splits, outputs)
        account.note_shortfall()

    def _drawn(
        self, file: OutputFile, pairs: StoredPairs, sampler: PairSampler
    ) -> Iterator[tuple[pa.RecordBatch, pl.DataFrame]]:
        """The rows of a file, and the same with what they draw, a block at a time."""
        names = [ROW + name for name in self.output_rows.columns.names]
        for numbers, batch in pairs.batches([*names, *sampler.columns], file.numbers):
            keys = batch.select(sampler.columns)
            examples = _frame([keys], keys.schema).with_columns(number=numbers)
            rows = batch.select(names)
            for start in range(0, len(batch), sampler.block):
                part = examples.slice(start, sampler.block)
                yield rows.slice(start, sampler.block), sampler.draw(part)

    def _write_stored_texts(
        self, pairs: StoredPairs, splits: pl.Series, outputs: AtomicOutputs
    ) -> None:
        path = self.options.texts_out
        names = {"row_text": "row_text"}
        if not self.options.texts_template:
            names = {ROW + "query": "query", ROW + "pos": "pos"}
        if not path:
            return
        for file in plan_outputs(path, pairs, splits, split_names=list(self.shares)):
            texts = self._texts(file.path, outputs)
            for examples in pairs.frames(list(names), file.numbers):
                texts.write(examples.rename(names))


def _frame(batches: list[pa.RecordBatch], schema: pa.Schema) -> pl.DataFrame:
    frame = pl.from_arrow(pa.Table.from_batches(batches, schema))
    assert isinstance(frame, pl.DataFrame)
    return frame
