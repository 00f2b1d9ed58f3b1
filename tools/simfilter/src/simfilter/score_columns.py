"""Scores as columns of the rows, without overwriting better ones."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.arrays import Scores
from fletching.report import Report
from fletching.row_columns import lists_like
from fletching.score_protection import have_scores_of_another_kind, may_write_scores
from simfilter.row_filter import in_columns

EXAMPLES = schema.load("examples")
POSITIVE_SCORES = ("pos_scores", "pos_score_kind")
NEGATIVE_SCORES = ("neg_scores", "neg_score_kind")


def scored_columns(columns: pa.Schema) -> pa.Schema:
    """The columns of scored rows."""
    return schema.extend(EXAMPLES, columns, *POSITIVE_SCORES)


class ScoreColumns:
    """Writes scores of one kind into rows, and counts the rows in which others win or go.

    columns: of the rows written. kind: of the scores.
    """

    def __init__(self, columns: pa.Schema, *, kind: str, replace_scores: bool) -> None:
        self.columns = columns
        self.kind = kind
        self.replace_scores = replace_scores
        self.rows_kept = 0
        self.rows_cleared = 0

    def write(
        self, rows: pa.RecordBatch, scores: Scores, negative_scores: Scores | None = None
    ) -> pa.RecordBatch:
        """The rows with scores (p,) as `pos_scores`; protected ones stay.

        negative_scores: (n,) for `neg_scores` of the rows whose positives get theirs.
        """
        lists: pa.Array = lists_like(rows["pos"], pa.array(scores, pa.float32()))
        may_write = may_write_scores(rows, "pos", self.kind)
        if self.replace_scores:
            may_write = pa.array([True] * len(rows), pa.bool_())
        may_write_negatives = pc.and_(may_write, may_write_scores(rows, "neg", self.kind))
        if self.replace_scores:
            may_write_negatives = may_write
        is_cleared = pc.and_(may_write, have_scores_of_another_kind(rows, "neg", self.kind))
        self.rows_kept += len(rows) - may_write.true_count
        self.rows_cleared += is_cleared.true_count
        rows = in_columns(rows, self.columns)
        rows = _changed(rows, "pos_scores", pc.if_else(may_write, lists, rows["pos_scores"]))
        kinds = pc.if_else(may_write, self.kind, rows["pos_score_kind"])
        rows = _changed(rows, "pos_score_kind", kinds)
        for name in NEGATIVE_SCORES:
            if name in rows.schema.names:
                absent = pa.nulls(len(rows), rows[name].type)
                rows = _changed(rows, name, pc.if_else(is_cleared, absent, rows[name]))
        if negative_scores is not None:
            lists = lists_like(rows["neg"], pa.array(negative_scores, pa.float32()))
            lists = pc.if_else(may_write_negatives, lists, rows["neg_scores"])
            rows = _changed(rows, "neg_scores", lists)
            is_written = pc.and_(may_write_negatives, lists.is_valid())
            kinds = pc.if_else(is_written, self.kind, rows["neg_score_kind"])
            rows = _changed(rows, "neg_score_kind", kinds)
        return rows

    def report_rows(self, report: Report) -> None:
        """Count the rows in which scores stayed or went, and tell the user of them."""
        if self.rows_kept:
            report.measures["rows_with_scores_kept"] = self.rows_kept
            report.note(
                f"{self.rows_kept:,} rows keep scores that are no cosines; --replace-scores "
                "overwrites them"
            )
        if self.rows_cleared:
            report.measures["rows_with_neg_scores_cleared"] = self.rows_cleared
            report.note(
                f"{self.rows_cleared:,} rows lose their `neg_scores`, which are of another kind "
                f"than the new `pos_scores` ({self.kind})"
            )


def _changed(rows: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    index = rows.schema.get_field_index(name)
    return rows.set_column(index, rows.schema.field(index), values)
