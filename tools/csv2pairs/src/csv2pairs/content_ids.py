"""Ids of rows that have none: hashes of what they say."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from csv2pairs.keys import arrow_texts
from csv2pairs.templates import is_filled
from fletching.table.ragged_array import offsets_of


def with_ids(rows: pl.DataFrame, *parts: str) -> pl.DataFrame:
    """Rows whose `id` is null or blank get `fletching.text.content_id` of these columns.

    parts: columns of texts, or of lists of texts. id: of the user, or null.
    """
    lacks_id = rows.select(lacking=~is_filled(pl.col("id")))["lacking"]
    if not lacks_id.any():
        return rows
    lacking = rows.filter(lacks_id)
    lists = lacking.select(pl.concat_list(parts)).to_series()
    hashes = pl.Series(_hashes(lists), dtype=pl.String)
    ids = rows["id"].scatter(lacks_id.arg_true(), hashes)
    return rows.with_columns(id=ids)


def _hashes(lists: pl.Series) -> list[str]:
    """`content_id` of each list of texts: the bytes that are hashed are joined in Arrow."""
    texts = arrow_texts(lists.explode(empty_as_null=False))
    lengths = pc.binary_length(texts).to_numpy().astype("<u8")
    offsets = np.arange(len(texts) + 1, dtype=np.int32) * 8
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(lengths)]
    length_bytes = pa.BinaryArray.from_buffers(pa.binary(), len(texts), buffers)
    framed = pc.binary_join_element_wise(
        length_bytes,
        texts.cast(pa.binary()),
        b"",
    )
    list_offsets = offsets_of(lists.list.len().to_numpy())
    framed_lists = pa.ListArray.from_arrays(
        pa.array(list_offsets, pa.int32()),
        framed,
    )
    joined = pc.binary_join(framed_lists, b"")
    hashes = map(xxhash.xxh3_64_hexdigest, joined.to_pylist())
    return list(hashes)
