"""From input batches to scored units: shards, decontamination, scores, ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from fletching import schema, text_keys
from fletching.arrays import Numbers, Scores
from fletching.io import Reader
from fletching.options import Shard
from fletching.report import Report
from fletching.row_columns import list_owners
from fletching.table import DiskTable, row_units
from simfilter.decontaminate import EvaluationSets, split
from simfilter.histogram import Histogram
from simfilter.options import Options
from simfilter.relabel import Relabeller
from simfilter.row_filter import ScoredUnit, in_columns, rejected_unit
from simfilter.score_columns import ScoreColumns
from simfilter.scorers import OF_THE_INPUT, SCORERS, ScoringModels, scorer_name

if TYPE_CHECKING:
    from simfilter.pool_rank import Ranker


class RowScorer:
    """The scoring of one run. columns: of the rows written."""

    def __init__(
        self, options: Options, models: ScoringModels, *, columns: pa.Schema, report: Report
    ) -> None:
        self.options = options
        self.models = models
        self.columns = columns
        self.report = report
        self.score_kind = scorer_name(options)

    def score(self, reader: Reader, corpus: Reader | None) -> Iterator[ScoredUnit]:
        """Units with scores, and with ranks where --rank-within asks for them.

        Rows that share a text with an evaluation set come as units that are judged.
        """
        shard = Shard.parse(self.options.shard)
        scorer = SCORERS[self.score_kind](self.models)
        histogram = Histogram(self.score_kind)
        score_columns = ScoreColumns(
            self.columns, kind=self.score_kind, replace_scores=self.options.replace_scores
        )
        relabeller = None
        if self.options.relabel:
            relabeller = Relabeller(self.options, kind=self.score_kind)
        with contextlib.ExitStack() as stack:
            batches: Iterable[pa.RecordBatch] = reader
            if shard is not None or self.options.rank_within is not None:
                batches = stack.enter_context(DiskTable.from_batches(reader.columns, reader))
            ranker = self._ranker(batches, corpus)
            units: Iterable[pa.RecordBatch] = row_units.split_units(batches)
            if shard is not None:
                units = self._of_shard(list(units), shard)
            progress = stack.enter_context(self.report.progress("scoring", unit="rows"))
            for unit in self._decontaminated(units):
                if isinstance(unit, ScoredUnit):
                    yield unit
                    continue
                negative_scores = None
                if relabeller is None:
                    scores = scorer(unit)
                else:
                    relabelled = relabeller.relabel(unit, scorer)
                    unit, scores = relabelled.rows, relabelled.positive_scores
                    negative_scores = relabelled.negative_scores
                ranks = ranker(unit) if ranker is not None else None
                histogram.add(unit, scores)
                positives = self._positives(unit, scores, ranks)
                if self.score_kind == OF_THE_INPUT:
                    rows = in_columns(unit, self.columns)
                else:
                    rows = score_columns.write(unit, scores, negative_scores)
                yield ScoredUnit(rows=rows, positives=positives)
                progress.advance(len(unit))
        if relabeller is not None:
            relabeller.report_fates(self.report)
        score_columns.report_rows(self.report)
        self.report.measures |= histogram.measures()

    def _of_shard(self, units: list[pa.RecordBatch], shard: Shard) -> list[pa.RecordBatch]:
        """The units of the shard; the other rows count as dropped."""
        selected = units[shard.part(len(units))]
        rows, rows_selected = (sum(map(len, each)) for each in (units, selected))
        self.report.drop_other_shards(rows_selected, of=rows, unit=row_units.UNIT)
        return selected

    def _ranker(self, batches: Iterable[pa.RecordBatch], corpus: Reader | None) -> Ranker | None:
        """Ranks among all positives of the input and the corpus."""
        encoder = self.models.encoder
        if self.options.rank_within is None or encoder is None:
            return None
        from simfilter.pool_rank import RankPool, make_ranker  # torch

        pool = RankPool(batches, corpus or (), encoder=encoder, report=self.report)
        return make_ranker(pool, encoder)

    def _positives(
        self, rows: pa.RecordBatch, scores: Scores, ranks: Numbers | None
    ) -> pl.DataFrame:
        """The frame that criteria are over; see `simfilter.criteria`."""
        owners = pl.Series("row", list_owners(rows["pos"]))
        frame = pl.DataFrame([owners, pl.Series("score", scores)]).with_columns(
            positive=pl.Series(rows["pos"].flatten()),
            rank=pl.lit(None, pl.Int64) if ranks is None else pl.Series(ranks),
            group=pl.lit(0, pl.UInt64),
        )
        if self.options.keep_top_by == "all":
            return frame
        names = schema.column(rows, self.options.keep_top_by, pa.string()).cast(pa.string())
        groups = pl.Series("group", text_keys.hash_repeated_texts(names))
        return frame.with_columns(groups.gather(owners))

    def _decontaminated(
        self, units: Iterable[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch | ScoredUnit]:
        """The clean rows, and as judged units those that share a text with an evaluation set."""
        if not self.options.decontaminate:
            yield from units
            return
        evaluation = EvaluationSets(self.options.decontaminate, self.options.ngram)
        for unit in units:
            clean, contaminated, reasons = split(unit, evaluation.reasons(unit))
            if len(contaminated):
                yield rejected_unit(in_columns(contaminated, self.columns), reasons)
            if len(clean):
                yield clean
        evaluation.report_rows(self.report)
