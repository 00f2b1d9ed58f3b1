"""Scores as columns of the rows, without overwriting better ones."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.table.ragged_array import offsets_of
from simfilter.arrays import Scores
from simfilter.positive_lists import positive_counts

EXAMPLES = schema.load("examples")
PROTECTED = pa.array(["reranker", "label", "judge"])  # kinds of scores that are not overwritten
SCORES = ("pos_scores", "pos_score_kind")


def scored_columns(columns: pa.Schema) -> pa.Schema:
    """The columns of scored rows."""
    return schema.extend(EXAMPLES, columns, *SCORES)


def in_columns(rows: pa.RecordBatch, columns: pa.Schema) -> pa.RecordBatch:
    """The rows as they are, with nulls for columns that they lack."""
    arrays = [schema.column(rows, field.name, field.type) for field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def with_scores(
    rows: pa.RecordBatch,
    columns: pa.Schema,
    scores: Scores,
    *,
    kind: str,
    replace_scores: bool,
) -> pa.RecordBatch:
    """The rows with scores (p,) as `pos_scores`; better ones stay, unless `replace_scores`."""
    offsets = pa.array(offsets_of(positive_counts(rows)), pa.int32())
    lists: pa.Array = pa.ListArray.from_arrays(offsets, pa.array(scores, pa.float32()))
    kinds: pa.Array = pa.array([kind] * len(rows))
    if not replace_scores:
        old_kinds = schema.column(rows, "pos_score_kind", pa.string())
        old_lists = schema.column(rows, "pos_scores", lists.type)
        is_better = pc.and_(pc.is_in(old_kinds, PROTECTED), old_lists.is_valid())
        lists = pc.if_else(is_better, old_lists, lists)
        kinds = pc.if_else(is_better, old_kinds, kinds)
    new = {"pos_scores": lists, "pos_score_kind": kinds}
    arrays = [new[name] if name in new else rows[name] for name in columns.names]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
