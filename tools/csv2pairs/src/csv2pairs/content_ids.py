"""Ids of rows that have none: hashes of what they say."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from csv2pairs.keys import arrow_texts
from csv2pairs.templates import is_filled


def with_ids(rows: pl.DataFrame, *parts: str) -> pl.DataFrame:
    """Rows whose `id` is null or blank get `fletching.text.content_id` of these columns.

    parts: columns of texts, or of lists of texts. id: of the user, or null.
    """
    lacks_id = rows.select(lacking=~is_filled(pl.col("id")))["lacking"]
    if not lacks_id.any():
        return rows
    lists = rows.filter(lacks_id).select(pl.concat_list(parts)).to_series()
    ids = pl.Series(_hashes(lists), dtype=pl.String)
    numbers = lacks_id.arg_true()
    return rows.with_columns(id=rows["id"].scatter(numbers, ids))


def _hashes(lists: pl.Series) -> list[str]:
    """`content_id` of each list of texts: the bytes that are hashed are joined in Arrow."""
    texts = arrow_texts(lists.explode(empty_as_null=False))
    lengths = pc.binary_length(texts).to_numpy().astype("<u8")
    offsets = np.arange(len(texts) + 1, dtype=np.int32) * 8
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(lengths)]
    length_bytes = pa.BinaryArray.from_buffers(pa.binary(), len(texts), buffers)
    framed = pc.binary_join_element_wise(length_bytes, texts.cast(pa.binary()), b"")
    ends = np.concatenate([[0], lists.list.len().to_numpy().cumsum()])
    joined = pc.binary_join(pa.ListArray.from_arrays(ends.astype(np.int32), framed), b"")
    return list(map(xxhash.xxh3_64_hexdigest, joined.to_pylist()))
