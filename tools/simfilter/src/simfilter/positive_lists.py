"""Lists of positives: their lengths, the removal of some, rows as pairs, rejected rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.table import RaggedArray
from fletching.table.ragged_array import offsets_of
from simfilter.arrays import Mask, Numbers, Scores

ALIGNED = ("pos", "pos_ids", "pos_scores")
REASON = pa.field("reject_reason", pa.string())
PAIRS = pa.schema(
    [
        pa.field("query", pa.string(), False),
        pa.field("document", pa.string(), False),
        pa.field("cos_sim", pa.float32(), False),
    ]
)


def positive_counts(rows: pa.RecordBatch) -> Numbers:
    """The number of positives of each row, (n,)."""
    counts: Numbers = pc.list_value_length(rows["pos"]).to_numpy().astype(np.int64)
    return counts


def positive_owners(rows: pa.RecordBatch) -> Numbers:
    """The row of each positive, (p,)."""
    owners: Numbers = pc.list_parent_indices(rows["pos"]).to_numpy()
    return owners


def keep_positives(rows: pa.RecordBatch, keep: Mask) -> pa.RecordBatch:
    """The rows with those positives alone that `keep` (p,) marks, and what is aligned with them."""
    positives = RaggedArray.from_lengths(keep, positive_counts(rows))
    kept = positives.filter(keep).lengths
    for name in ALIGNED:
        index = rows.schema.get_field_index(name)
        if index < 0:
            continue
        lists = rows.column(index)
        is_present = np.asarray(lists.is_valid())  # a null list has no items
        items = lists.flatten().filter(pa.array(keep[is_present[positives.owners]]))
        offsets = pa.array(offsets_of(np.where(is_present, kept, 0)), pa.int32())
        mask = lists.is_null() if lists.null_count else None
        shorter = pa.ListArray.from_arrays(offsets, items, mask=mask)
        rows = rows.set_column(index, rows.schema.field(index), shorter)
    return rows


def rejected_rows(
    rows: pa.RecordBatch, columns: pa.Schema, reasons: Sequence[str]
) -> pa.RecordBatch:
    """Dropped rows in the columns of the output, and the reason of each."""
    arrays = [schema.column(rows, field.name, field.type) for field in columns]
    arrays.append(pa.array(reasons, pa.string()))
    return pa.RecordBatch.from_arrays(arrays, schema=columns.append(REASON))


def as_pairs(rows: pa.RecordBatch, cosines: Scores) -> pa.RecordBatch:
    """One row for each positive: `query, document, cos_sim`. cosines: of the positives, (p,)."""
    queries = rows["query"].take(pc.list_parent_indices(rows["pos"]))
    arrays = [queries, rows["pos"].flatten(), pa.array(cosines, pa.float32())]
    return pa.RecordBatch.from_arrays(arrays, schema=PAIRS)
