"""From input batches to scored units: shards, decontamination, scores, ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from fletching import schema, text_keys
from fletching.io import Reader, Writer
from fletching.options import Shard
from fletching.report import Report
from fletching.table import DiskTable
from simfilter.arrays import Numbers, Scores
from simfilter.decontaminate import EvaluationSets
from simfilter.drop_reasons import ScoredUnit
from simfilter.histogram import Histogram
from simfilter.models import ScoringModels
from simfilter.options import Options
from simfilter.positive_lists import positive_owners, rejected_rows
from simfilter.row_units import shard_units, split_units
from simfilter.score_columns import ScoreColumns, in_columns
from simfilter.scorers import OF_THE_INPUT, SCORERS, scorer_name

if TYPE_CHECKING:
    from simfilter.pool_rank import Ranker


class RowScorer:
    """The scoring of one run.

    columns: of the rows written. rejects: where contaminated rows are written.
    """

    def __init__(
        self,
        options: Options,
        models: ScoringModels,
        *,
        columns: pa.Schema,
        rejects: Writer | None,
        report: Report,
    ) -> None:
        self.options = options
        self.models = models
        self.columns = columns
        self.rejects = rejects
        self.report = report
        self.score_kind = scorer_name(options)

    def score(self, reader: Reader, corpus: Reader | None) -> Iterator[ScoredUnit]:
        """Units with scores, and with ranks where --rank-within asks for them."""
        shard = Shard.parse(self.options.shard)
        scorer = SCORERS[self.score_kind](self.models)
        histogram = Histogram(self.score_kind)
        score_columns = ScoreColumns(
            self.columns, kind=self.score_kind, replace_scores=self.options.replace_scores
        )
        with contextlib.ExitStack() as stack:
            batches: Iterable[pa.RecordBatch] = reader
            if shard is not None or self.options.rank_within is not None:
                batches = stack.enter_context(DiskTable.from_batches(reader.columns, reader))
            ranker = self._ranker(batches, corpus)
            if shard is not None and isinstance(batches, DiskTable):
                units: Iterable[pa.RecordBatch] = shard_units(batches, shard, self.report)
            else:
                units = split_units(batches)
            progress = stack.enter_context(self.report.progress("scoring", unit="rows"))
            for unit in self._clean(units):
                scores = scorer(unit)
                ranks = ranker(unit) if ranker is not None else None
                histogram.add(unit, scores)
                positives = self._positives(unit, scores, ranks)
                if self.score_kind == OF_THE_INPUT:
                    rows = in_columns(unit, self.columns)
                else:
                    rows = score_columns.write(unit, scores)
                yield ScoredUnit(rows=rows, positives=positives)
                progress.advance(len(unit))
        score_columns.report_rows(self.report)
        self.report.measures |= histogram.measures()

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
        owners = pl.Series("row", positive_owners(rows))
        frame = pl.DataFrame([owners, pl.Series("score", scores)]).with_columns(
            positive=pl.Series(rows["pos"].flatten()),
            rank=pl.lit(None, pl.Int64) if ranks is None else pl.Series(ranks),
            group=pl.lit(0, pl.UInt64),
        )
        if self.options.keep_top_by == "all":
            return frame
        names = schema.column(rows, self.options.keep_top_by, pa.string()).cast(pa.string())
        return frame.with_columns(group=pl.Series(text_keys.hash_texts(names)).gather(owners))

    def _clean(self, units: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows that share nothing with an evaluation set."""
        if not self.options.decontaminate:
            yield from units
            return
        evaluation = EvaluationSets(self.options.decontaminate, self.options.ngram)
        for unit in units:
            rows = evaluation.split(unit, self.report)
            if self.rejects is not None and len(rows.contaminated):
                rejected = rejected_rows(rows.contaminated, self.columns, rows.reasons)
                self.rejects.write(rejected)
            if len(rows.clean):
                yield rows.clean
        evaluation.report_rows(self.report)
