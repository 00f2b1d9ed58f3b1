"""The rows in units, and lists that lose items together."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.report import Report

EXAMPLES = schema.load("examples")
UNIT = 1024  # rows scored together; shards are whole units, so that a shard's scores are the whole run's
ALIGNED = ("pos", "pos_ids", "pos_scores")
REASON = pa.field("reject_reason", pa.string())


def units(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from (batch.slice(start, UNIT) for start in range(0, len(batch), UNIT))


def spooled(
    batches: Iterable[pa.RecordBatch], columns: pa.Schema, stack: contextlib.ExitStack
) -> list[pa.RecordBatch]:
    """The batches again, from a temporary file that is mapped into memory."""
    file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="simfilter-", suffix=".arrow"))
    writer = pa.ipc.new_file(file, columns)
    for batch in batches:
        writer.write_batch(batch)
    writer.close()
    file.flush()
    reader = pa.ipc.open_file(pa.memory_map(file.name))
    return [reader.get_batch(i) for i in range(reader.num_record_batches)]


def shard(
    pieces: list[pa.RecordBatch], part: tuple[int, int], report: Report
) -> list[pa.RecordBatch]:
    """Part i of n of the units, in order; the others count as dropped."""
    number, count = part
    mine = pieces[number * len(pieces) // count : (number + 1) * len(pieces) // count]
    report.drop("in other shards", sum(map(len, pieces)) - sum(map(len, mine)))
    return mine


def lengths(batch: pa.RecordBatch) -> np.ndarray:
    return pc.list_value_length(batch["pos"]).to_numpy().astype(np.int64)


def without(batch: pa.RecordBatch, keep: np.ndarray) -> pa.RecordBatch:
    """The batch with the positives that `keep` [sum of len(pos)] marks, and what is aligned with them."""
    counts = lengths(batch)
    kept = np.bincount(np.repeat(np.arange(len(batch)), counts), keep, len(batch)).astype(np.int64)
    for name in ALIGNED:
        index = batch.schema.get_field_index(name)
        if index >= 0:
            items = batch.column(index)
            present = np.asarray(items.is_valid())
            offsets = pa.array(
                np.concatenate([[0], np.where(present, kept, 0).cumsum()]), pa.int32()
            )
            mine = pa.array(keep[np.repeat(present, counts)])
            fewer = pa.ListArray.from_arrays(
                offsets,
                items.flatten().filter(mine),
                mask=items.is_null() if items.null_count else None,
            )
            batch = batch.set_column(index, batch.schema.field(index), fewer)
    return batch


def rejected(batch: pa.RecordBatch, columns: pa.Schema, reasons: list[str]) -> pa.RecordBatch:
    """Dropped rows in the columns of the rejects: those of the output and the reason."""
    arrays = [schema.column(batch, field.name, field.type) for field in columns]
    return pa.RecordBatch.from_arrays(
        [*arrays, pa.array(reasons, pa.string())], schema=columns.append(REASON)
    )


PAIRS = pa.schema(
    [
        pa.field("query", pa.string(), False),
        pa.field("document", pa.string(), False),
        pa.field("cos_sim", pa.float32(), False),
    ]
)


def as_pairs(batch: pa.RecordBatch) -> pa.RecordBatch:
    """One row for each positive: `query, document, cos_sim`."""
    queries = batch["query"].take(pc.list_parent_indices(batch["pos"]))
    return pa.RecordBatch.from_arrays(
        [queries, batch["pos"].flatten(), batch["pos_scores"].flatten()], schema=PAIRS
    )
