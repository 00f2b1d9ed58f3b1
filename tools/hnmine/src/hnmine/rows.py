"""Rows with their negatives and scores, and the filling of scores by a cross-encoder alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.encode.reranker import Reranker
from fletching.report import Report
from hnmine.mine import Mined
from hnmine.pool import Pool
from hnmine.queries import Lists

EXAMPLES = schema.load("examples")
PROTECTED = pa.array(["reranker", "label", "judge"])  # scores that a cosine does not overwrite
SCORES = ("pos_scores", "pos_score_kind", "neg_scores", "neg_score_kind")
PADDED = pa.field("neg_padded", pa.int32())


def mined_columns(columns: pa.Schema, pad: bool) -> pa.Schema:
    extended = schema.extend(EXAMPLES, columns, *SCORES, "neg", "neg_ids")
    return extended.append(PADDED) if pad and PADDED.name not in extended.names else extended


def scored_columns(columns: pa.Schema) -> pa.Schema:
    return schema.extend(EXAMPLES, columns, *(SCORES if "neg" in columns.names else SCORES[:2]))


def with_negatives(
    unit: pa.RecordBatch,
    start: int,
    columns: pa.Schema,
    pool: Pool,
    mined: Mined,
    replace_scores: bool,
) -> pa.RecordBatch:
    """The unit, whose first row is row `start` of the shard, with `neg` and scores; better scores of positives than a cosine stay."""
    stop = start + len(unit)
    offsets, numbers = _part(mined.negatives, start, stop)
    texts = pool.texts(numbers)
    named = pool.ids(numbers) if len(pool) else pa.array([], pa.string())
    ids = (
        pa.ListArray.from_arrays(offsets, named)
        if pool.named
        else pa.nulls(len(unit), pa.list_(pa.string()))
    )
    first, last = mined.negatives.offsets[[start, stop]]
    new: dict[str, Any] = {
        "neg": pa.ListArray.from_arrays(offsets, texts),
        "neg_scores": pa.ListArray.from_arrays(
            offsets, pa.array(mined.neg_scores[first:last], pa.float32())
        ),
        "neg_score_kind": pa.array([mined.kind] * len(unit)),
        "neg_ids": ids,
        PADDED.name: pa.array(mined.padded[start:stop], pa.int32()),
    }
    offsets, _ = _part(mined.positives, start, stop)
    first, last = mined.positives.offsets[[start, stop]]
    fresh = pa.ListArray.from_arrays(offsets, pa.array(mined.pos_scores[first:last], pa.float32()))
    new |= _kept_scores(unit, fresh, mined.kind, replace_scores)
    return _assembled(unit, columns, new)


def _part(lists: Lists, start: int, stop: int) -> tuple[pa.Array, np.ndarray]:
    offsets = lists.offsets[start : stop + 1]
    return pa.array(offsets - offsets[0], pa.int32()), lists.numbers[offsets[0] : offsets[-1]]


def _kept_scores(
    unit: pa.RecordBatch, fresh: pa.Array, kind: str, replace_scores: bool
) -> dict[str, pa.Array]:
    kinds: pa.Array = pa.array([kind] * len(unit))
    if not replace_scores:
        before = schema.column(unit, "pos_score_kind", pa.string())
        held = schema.column(unit, "pos_scores", fresh.type)
        better = pc.and_(pc.is_in(before, PROTECTED), held.is_valid())
        fresh, kinds = pc.if_else(better, held, fresh), pc.if_else(better, before, kinds)
    return {"pos_scores": fresh, "pos_score_kind": kinds}


def scored(
    unit: pa.RecordBatch,
    columns: pa.Schema,
    reranker: Reranker,
    replace_scores: bool,
    report: Report,
) -> pa.RecordBatch:
    """The unit with a cross-encoder's score for each positive and negative that it has."""
    new: dict[str, pa.Array] = {}
    for name in ("pos", "neg"):
        if name not in unit.schema.names:
            continue
        lists = unit[name]
        parents = pc.list_parent_indices(lists)
        scores = reranker.score(
            unit["query"].take(parents).to_pylist(), lists.flatten().to_pylist()
        )
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        offsets = pa.array(np.concatenate([[0], lengths.cumsum()]), pa.int32())
        fresh: Any = pa.ListArray.from_arrays(
            offsets,
            pa.array(scores, pa.float32()),
            mask=lists.is_null() if lists.null_count else None,
        )
        kinds = pc.if_else(lists.is_valid(), "reranker", pa.scalar(None, pa.string()))
        if not replace_scores:
            before = schema.column(unit, f"{name}_score_kind", pa.string())
            held = schema.column(unit, f"{name}_scores", fresh.type)
            better = pc.and_(pc.is_in(before, PROTECTED), held.is_valid())
            report.measures[f"{name}_scores_kept"] = report.measures.get(
                f"{name}_scores_kept", 0
            ) + int(pc.sum(better).as_py() or 0)
            fresh, kinds = pc.if_else(better, held, fresh), pc.if_else(better, before, kinds)
        new |= {f"{name}_scores": fresh, f"{name}_score_kind": kinds}
    return _assembled(unit, columns, new)


def _assembled(unit: pa.RecordBatch, columns: pa.Schema, new: dict[str, Any]) -> pa.RecordBatch:
    arrays = [
        new[field.name] if field.name in new else schema.column(unit, field.name, field.type)
        for field in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
