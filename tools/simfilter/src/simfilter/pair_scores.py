"""A score for every positive: its cosine to the query, a cross-encoder's, or the one that the row brings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.encode import Encoder
from fletching.encode.reranker import Reranker
from fletching.errors import InputError
from simfilter.positive_units import EXAMPLES

PROTECTED = pa.array(["reranker", "label", "judge"])  # scores that are not overwritten

Scorer = Callable[[pa.RecordBatch], np.ndarray]  # float32 [sum of len(pos)]


def scored_columns(columns: pa.Schema) -> pa.Schema:
    return schema.extend(EXAMPLES, columns, "pos_scores", "pos_score_kind")


def queries_of(batch: pa.RecordBatch, encoder: Encoder) -> np.ndarray:
    """Unit vectors of the queries, float32 (rows, D)."""
    return encoder.encode(
        batch["query"].to_pylist(), "query", schema.column(batch, "prompt", pa.string()).to_pylist()
    )


def by_cosine(encoder: Encoder) -> Scorer:
    def score(batch: pa.RecordBatch) -> np.ndarray:
        queries = queries_of(batch, encoder)
        positives = encoder.encode(batch["pos"].flatten().to_pylist(), "document")  # (pairs, D)
        return np.einsum(
            "pd,pd->p", queries[pc.list_parent_indices(batch["pos"]).to_numpy()], positives
        )

    return score


def by_reranker(reranker: Reranker) -> Scorer:
    def score(batch: pa.RecordBatch) -> np.ndarray:
        queries = batch["query"].take(pc.list_parent_indices(batch["pos"]))
        return reranker.score(queries.to_pylist(), batch["pos"].flatten().to_pylist())

    return score


def given(batch: pa.RecordBatch) -> np.ndarray:
    """The row's own `pos_scores`."""
    scores = schema.column(batch, "pos_scores", pa.list_(pa.float32()))
    if scores.null_count:
        row = batch.filter(scores.is_null())["id"][0].as_py()
        raise InputError(
            f"row {row!r} has no `pos_scores`, which --use-scores goes by",
            "score the rows first: simfilter --score-only",
        )
    return scores.flatten().to_numpy()


def with_scores(
    batch: pa.RecordBatch, columns: pa.Schema, scores: np.ndarray, kind: str, replace_scores: bool
) -> pa.RecordBatch:
    """The batch with the scores as `pos_scores`, but where better ones stand already."""
    counts = pc.list_value_length(batch["pos"]).to_numpy()
    fresh: pa.Array = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32()), pa.array(scores, pa.float32())
    )
    kinds: pa.Array = pa.array([kind] * len(batch))
    if not replace_scores:
        before = schema.column(batch, "pos_score_kind", pa.string())
        held = schema.column(batch, "pos_scores", fresh.type)
        keep = pc.and_(pc.is_in(before, PROTECTED), held.is_valid())
        fresh, kinds = pc.if_else(keep, held, fresh), pc.if_else(keep, before, kinds)
    new = {"pos_scores": fresh, "pos_score_kind": kinds}
    return pa.RecordBatch.from_arrays(
        [new[field.name] if field.name in new else batch[field.name] for field in columns],
        schema=columns,
    )
