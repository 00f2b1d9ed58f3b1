"""The rows in units that are scored together, and the units of a shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from fletching.options import Shard
from fletching.report import Report
from fletching.table import DiskTable

# Rows scored together. Shards are whole units, so that their scores are those of the whole run.
UNIT = 1024


def split_units(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows in slices of at most UNIT, none across two batches."""
    for batch in batches:
        for start in range(0, len(batch), UNIT):
            yield batch.slice(start, UNIT)


def shard_units(table: DiskTable, shard: Shard, report: Report) -> list[pa.RecordBatch]:
    """The units of this shard, in order; the other rows count as dropped."""
    units = table.slices(UNIT)
    first = shard.index * len(units) // shard.count
    last = (shard.index + 1) * len(units) // shard.count
    selected = units[first:last]
    report.drop("in other shards", len(table) - sum(len(unit) for unit in selected))
    return selected
