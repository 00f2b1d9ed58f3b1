"""Rows in units that are encoded together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

# Shards are whole units, so that their vectors and scores are those of the whole run.
UNIT = 1024


def split_units(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows in slices of at most UNIT, none across two batches."""
    for batch in batches:
        for start in range(0, len(batch), UNIT):
            yield batch.slice(start, UNIT)
