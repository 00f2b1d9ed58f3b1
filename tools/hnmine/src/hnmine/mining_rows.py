"""The rows that are mined for, on disk, and keys of their texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching import schema, text_keys
from fletching.io import Reader
from fletching.options import Shard
from fletching.report import Report
from fletching.table import DiskTable
from hnmine.arrays import Keys, Numbers

# Rows encoded together. Shards are whole units, so that their vectors are those of the whole run.
UNIT = 1024


class MiningRows:
    """All input rows on disk, and the units of them that this shard mines for.

    The pool is made of all rows, whatever the shard. Use it as a context manager.
    """

    def __init__(self, reader: Reader, report: Report, shard: Shard | None = None) -> None:
        with report.progress("reading") as progress:

            def batches() -> Iterator[pa.RecordBatch]:
                """The batches, counted as they pass."""
                for batch in reader:
                    yield batch
                    progress.advance(len(batch))

            self.table = DiskTable.from_batches(reader.columns, batches())
        units = self.table.slices(UNIT)
        if shard is not None:
            first = shard.index * len(units) // shard.count
            last = (shard.index + 1) * len(units) // shard.count
            units = units[first:last]
        self.units = units
        report.drop("in other shards", len(self.table) - len(self))

    def __len__(self) -> int:
        return sum(len(unit) for unit in self.units)

    def __enter__(self) -> MiningRows:
        return self

    def __exit__(self, *failure: object) -> None:
        self.units = []
        self.table.close()

    def numbered_units(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(number of the unit's first row in the shard, unit)."""
        start = 0
        for unit in self.units:
            yield start, unit
            start += len(unit)

    def query_texts(self, rows: Numbers) -> list[str]:
        """The query texts of these rows of the shard."""
        queries = pa.chunked_array([unit["query"] for unit in self.units], pa.string())
        texts: list[str] = queries.take(pa.array(rows)).to_pylist()
        return texts


def warn_of_old_negatives(rows: MiningRows, report: Report) -> None:
    """Tell the user how many rows of the shard lose the negatives that they came with."""
    replaced = 0
    for unit in rows.units:
        if "neg" in unit.schema.names:
            replaced += len(unit) - unit["neg"].null_count
    if replaced:
        report.note(f"{replaced:,} rows had negatives, which are replaced; --keep-neg keeps them")


def domain_keys(batch: pa.RecordBatch) -> Keys:
    """A key of each row's domain, (n,); rows without one share a key."""
    return text_keys.hash_texts(schema.column(batch, "domain", pa.string()).cast(pa.string()))


def query_keys(batch: pa.RecordBatch) -> Keys:
    """A key of each row's query in its domain, (n,)."""
    return text_keys.mix(text_keys.hash_texts(batch["query"]), domain_keys(batch))


def list_owners(lists: pa.ListArray) -> Numbers:
    """The row of each item, (items,)."""
    owners: Numbers = pc.list_parent_indices(lists).to_numpy()
    return owners


def list_lengths(lists: pa.ListArray) -> Numbers:
    """The number of items of each row, (n,); 0 for nulls."""
    lengths: Numbers = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths


def hash_bytes(values: pa.Array) -> Keys:
    """xxh3-64 of each string as it is written, uint64 (n,); 0 for nulls."""
    digest = xxhash.xxh3_64_intdigest
    contents = values.cast(pa.binary()).to_pylist()
    if values.null_count:
        hashes = (0 if content is None else digest(content) for content in contents)
        return np.fromiter(hashes, np.uint64, len(values))
    return np.fromiter(map(digest, contents), np.uint64, len(values))
