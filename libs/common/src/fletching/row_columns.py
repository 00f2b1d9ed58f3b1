"""Columns of `examples` and `texts` as arrays: keys of queries and domains, and lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.arrays import Keys, Numbers
from fletching.table.ragged_array import offsets_of


def domain_keys(rows: pa.RecordBatch) -> Keys:
    """A key of each row's domain, (n,); rows without one share a key."""
    domains = schema.column(rows, "domain", pa.string()).cast(pa.string())
    return text_keys.hash_repeated_texts(domains)


def query_keys(rows: pa.RecordBatch) -> Keys:
    """A key of each row's query in its domain, (n,)."""
    return text_keys.mix(text_keys.hash_texts(rows["query"]), domain_keys(rows))


def list_owners(lists: pa.ListArray) -> Numbers:
    """The row of each item, (items,)."""
    owners: Numbers = pc.list_parent_indices(lists).to_numpy()
    return owners


def list_lengths(lists: pa.ListArray) -> Numbers:
    """The number of items of each row, (n,); 0 for nulls."""
    lengths: Numbers = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths


def lists_like(lists: pa.ListArray, items: pa.Array) -> pa.ListArray:
    """Other items in lists of the same lengths, with the same nulls."""
    mask = lists.is_null() if lists.null_count else None
    offsets = pa.array(offsets_of(list_lengths(lists)), pa.int32())
    return pa.ListArray.from_arrays(offsets, items, mask=mask)
