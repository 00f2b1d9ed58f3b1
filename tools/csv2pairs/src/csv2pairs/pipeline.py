"""One run, from table to files: pairs straight through, or by way of the disk.

Pairs alone stream. Negatives, splits, partitions and --mode group need every pair before the first
can be written: they are stored, then sampled and written a block at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping

import numpy as np

from csv2pairs import partition, splitting
from csv2pairs.array_types import Integers, Keys
from csv2pairs.options import Options
from csv2pairs.pairing.pair_batch import PairBatch
from csv2pairs.pairing.pair_builder import PairBuilder
from csv2pairs.pairing.sampling import BLOCK, PairSampler, SampledBlock
from csv2pairs.pairing.sampling_account import SamplingAccount
from csv2pairs.pairing.stored_pairs import StoredPairs, take_texts
from csv2pairs.partition import PartitionColumn
from csv2pairs.table import note_joined_lists
from csv2pairs.writing.background_writer import BackgroundWriter
from csv2pairs.writing.example_rows import ExampleRows
from csv2pairs.writing.output_writers import OutputWriters
from csv2pairs.writing.unique_texts import PairTexts, RowTexts
from fletching.io import AtomicOutputs
from fletching.io.tables import TableReader
from fletching.report import Report
from fletching.table import GrowingKeySet

REPEATED_IDS = "rows_with_an_id_seen_before"
LARGE_SHARE = 0.05  # of all rows in one component: from here on splits may miss their shares
FEW_ROWS = 20  # with fewer, shares are missed anyway


def write_texts(
    table: TableReader, options: Options, report: Report, writers: OutputWriters
) -> None:
    """--mode texts: one text for each row of the table, as `texts`."""
    row_texts = RowTexts(options, report)
    with (
        writers.texts(options.output, row_texts.columns) as writer,
        report.progress("reading") as progress,
    ):
        for batch in table:
            writer.write(row_texts.rows(batch))
            progress.advance(len(batch))
        note_joined_lists(table, report)


class PairPipeline:
    """The other modes: the table's rows as `examples`, and with --texts-out their texts.

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
        self.example_rows = ExampleRows(options)

    def write(self) -> None:
        """Write all outputs; they appear together or not at all."""
        options = self.options
        needs_every_pair = (
            options.negatives_per_row
            or self.shares
            or options.partition_by
            or options.mode == "group"
        )
        if not needs_every_pair:
            self._write_straight()
            return
        with tempfile.TemporaryDirectory(prefix="csv2pairs-") as folder:
            self._write_stored(StoredPairs(self._pairs(), folder, self.builder.passed))

    def _pairs(self) -> Iterator[PairBatch]:
        """The pairs of every batch of rows, without repetitions."""
        contents = GrowingKeySet()
        ids = GrowingKeySet()
        repeated_ids = 0
        with self.report.progress("reading") as progress:
            for batch in self.table:
                pairs = self.builder.pairs(batch)
                is_new = contents.add_new(pairs.content)
                self.report.drop("duplicate", int((~is_new).sum()))
                pairs = pairs.filter(is_new)
                if self.options.id:
                    repeated_ids += count_repeated_ids(pairs, ids)
                yield pairs
                progress.advance(len(batch))
        note_joined_lists(self.table, self.report)
        if repeated_ids:
            self.report.measures[REPEATED_IDS] = repeated_ids
            self.report.note(
                f"{repeated_ids:,} rows repeat the id of an earlier row; they are kept, "
                "in one split with it, and never become each other's negatives"
            )

    # --- pairs alone ---

    def _write_straight(self) -> None:
        options = self.options
        writer = self.writers.examples(options.output, self.example_rows.columns)
        with AtomicOutputs(writer) as outputs:
            texts = None
            if options.texts_out:
                texts = PairTexts(outputs.add(self.writers.side_texts(options.texts_out)))
            for pairs in self._pairs():
                writer.write(self.example_rows.of_batch(pairs))
                if texts is not None:
                    texts.write(pairs.query, pairs.positives.texts, pairs.row_texts)

    # --- with negatives, splits or partitions ---

    def _write_stored(self, pairs: StoredPairs) -> None:
        options = self.options
        splits = self._splits(pairs)
        ids_repeat = REPEATED_IDS in self.report.measures
        sampler = PairSampler(pairs, splits, options, ids_repeat=ids_repeat)
        account = SamplingAccount(options, self.report)
        files = partition.plan_outputs(
            options.output,
            splits,
            split_names=list(self.shares),
            column=self._partition_column(pairs),
        )
        drops_rows = options.mode == "group" or options.shortfall == "drop"
        counts_first = len(files) > 1 and drops_rows
        if counts_first:  # a footer states the drops of the whole run: count before a file ends
            for file in files:
                for _, sampled in sampled_blocks(sampler, file.rows):
                    account.count(sampled)
        with AtomicOutputs() as outputs, self.report.progress("writing", len(pairs)) as progress:
            for file in files:
                writer = outputs.add(self.writers.examples(file.path, self.example_rows.columns))
                with BackgroundWriter(writer) as background:
                    for rows, sampled in sampled_blocks(sampler, file.rows):
                        if not counts_first:
                            account.count(sampled)
                        background.write(self.example_rows.of_block(pairs, rows, sampled))
                        progress.advance(len(rows))
                if len(files) > 1:
                    self.report.note(f"{file.label}: {writer.rows:,} rows in {file.path}")
                    writer.complete()
            self._write_stored_texts(pairs, splits, outputs)
        account.note_shortfall()

    def _splits(self, pairs: StoredPairs) -> Integers:
        """The number of each pair's split, (n,)."""
        if not self.shares:
            return np.zeros(len(pairs), np.int64)
        keys = pairs.keys
        links = [keys.links, keys.id_links, keys.split_links]
        if self.options.mode == "group":  # where a row has one text
            links.append(pairs.positive_keys.values)
        labels = splitting.component_labels(np.column_stack(links))
        self._measure_largest_component(labels)
        return splitting.assign_splits(labels, self.shares, self.options.seed)

    def _measure_largest_component(self, labels: Keys) -> None:
        """Why the splits may not have their shares: many rows are linked by common texts."""
        rows = len(labels)
        sizes = np.unique(labels, return_counts=True)[1]
        largest = int(sizes.max()) if rows else 0
        self.report.measures["largest_group_of_tied_rows"] = largest
        if largest > max(1, LARGE_SHARE * rows) and rows >= FEW_ROWS:
            self.report.note(
                f"{largest:,} of {rows:,} rows are connected by shared texts "
                "and stay in one split; shares may be missed"
            )

    def _partition_column(self, pairs: StoredPairs) -> PartitionColumn | None:
        options = self.options
        if options.partition_by == "domain":
            texts = pairs.passed[options.domain or ""]
            return PartitionColumn("domain", texts, pairs.keys.domain)
        if options.partition_by == "category":
            texts = pairs.passed[options.category or ""]
            return PartitionColumn("category", texts, pairs.keys.category)
        return None

    def _write_stored_texts(
        self, pairs: StoredPairs, splits: Integers, outputs: AtomicOutputs
    ) -> None:
        if not self.options.texts_out:
            return
        for number, name in enumerate(self.shares or [""]):
            path = self.options.texts_out.replace("{split}", name)
            texts = PairTexts(outputs.add(self.writers.side_texts(path)))
            for rows in blocks_of(np.flatnonzero(splits == number), BLOCK):
                row_texts = None
                if self.builder.row_template is not None:
                    row_texts = take_texts(pairs.row_texts, rows)
                positives = pairs.take_positives(rows).values
                texts.write(take_texts(pairs.queries, rows), positives, row_texts)


def count_repeated_ids(pairs: PairBatch, ids: GrowingKeySet) -> int:
    """How many rows of the table repeat an id; the pairs of one row count once.

    pairs: those of one row are neighbours. ids: of earlier batches; the ones of this are added.
    """
    id_keys = pairs.keys.id_links
    query_keys = pairs.keys.query
    starts_row = np.ones(len(pairs), bool)
    starts_row[1:] = id_keys[1:] != id_keys[:-1]
    starts_row[1:] |= query_keys[1:] != query_keys[:-1]
    is_new = ids.add_new(id_keys[starts_row])
    return int((~is_new).sum())


def sampled_blocks(sampler: PairSampler, rows: Integers) -> Iterator[tuple[Integers, SampledBlock]]:
    """Blocks of rows, each with what it draws."""
    for block in blocks_of(rows, sampler.block):
        yield block, sampler.draw(block)


def blocks_of(rows: Integers, size: int) -> Iterator[Integers]:
    """Consecutive parts of at most so many rows."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
