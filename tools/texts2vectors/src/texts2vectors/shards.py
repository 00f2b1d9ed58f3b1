"""The rows in units that are encoded together, and the units that --shard names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from fletching.options import Shard
from fletching.report import Report
from fletching.table import DiskTable

# Rows. A shard is made of whole units, so that its bytes are those of the whole run.
UNIT = 4096
COLUMNS = ("id", "text", "title", "query", "pos", "pos_ids", "neg", "neg_ids", "prompt")

OwnedUnit = tuple[pa.RecordBatch, bool]  # a unit, and is it of this shard?


def units_of_shard(
    batches: Iterable[pa.RecordBatch], columns: pa.Schema, *, shard: Shard | None, report: Report
) -> Iterator[OwnedUnit]:
    """All units up to the last one of the shard; those before it come too, unowned.

    With a shard the rows wait on disk, since their number decides where it starts.
    """
    if shard is None:
        for batch in batches:
            for start in range(0, len(batch), UNIT):
                yield batch.slice(start, UNIT), True
        return
    known = pa.schema([field for field in columns if field.name in COLUMNS])
    of_texts = (batch.select(known.names) for batch in batches)
    with DiskTable.from_batches(known, of_texts) as table:
        units = table.slices(UNIT)
        part = shard.part(len(units))
        report.drop_other_shards(sum(map(len, units[part])), of=len(table), unit=UNIT)
        for number, unit in enumerate(units[: part.stop]):
            yield unit, number >= part.start
