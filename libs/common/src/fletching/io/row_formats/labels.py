"""Labels of pairs as columns of `examples`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


def with_labels(
    batch: pa.RecordBatch, scores: Sequence[Sequence[float] | None], kind: str = "label"
) -> pa.RecordBatch:
    """The rows with these scores of their positives, of this kind; null where there are none."""
    kinds = [None if row is None else kind for row in scores]
    values = pa.array([None if row is None else list(row) for row in scores], FLOATS)
    scored = batch.append_column("pos_scores", values)
    return scored.append_column("pos_score_kind", pa.array(kinds, pa.string()))


FLOATS = pa.list_(pa.float32())
