"""Ids of rows that have none: hashes of what they say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from csv2pairs import templates
from csv2pairs.array_types import Integers
from fletching.text import content_id


def text_ids(texts: pa.StringArray, user_ids: pa.StringArray | None) -> pa.StringArray:
    """The user's id of each text where it is not blank, else a hash of the text."""
    if user_ids is None:
        return pa.array(map(content_id, texts.to_pylist()), pa.string())
    ids = []
    for text, user_id in zip(texts.to_pylist(), user_ids.to_pylist()):
        is_blank = user_id is None or not user_id.strip()
        ids.append(content_id(text) if is_blank else user_id)
    return pa.array(ids, pa.string())


def pair_ids(
    query: pa.StringArray,
    positives: pa.StringArray,
    counts: Integers,
    *,
    user_ids: pa.StringArray | None,
) -> pa.StringArray:
    """The user's id of each pair where it is not blank, else a hash of query and positives.

    query: (n,). positives: (m,), counts[i] of them for query i.
    """
    if user_ids is None:
        return _hashes(query, positives, counts)
    is_filled = templates.is_filled(user_ids)
    if is_filled.false_count == 0:
        return user_ids
    return pc.if_else(is_filled, user_ids, _hashes(query, positives, counts))


def _hashes(query: pa.StringArray, positives: pa.StringArray, counts: Integers) -> pa.StringArray:
    """`content_id` of each query and its positives."""
    if (counts == 1).all():
        return _hashes_of_single_positives(query, positives)
    texts = positives.to_pylist()
    ids = []
    start = 0
    for query_text, count in zip(query.to_pylist(), counts.tolist()):
        ids.append(content_id(query_text, *texts[start : start + count]))
        start += count
    return pa.array(ids, pa.string())


def _hashes_of_single_positives(query: pa.StringArray, positives: pa.StringArray) -> pa.StringArray:
    """The same where each row has one positive: the bytes that are hashed are joined in Arrow."""
    joined = pc.binary_join_element_wise(
        _length_bytes(query),
        query.cast(pa.binary()),
        _length_bytes(positives),
        positives.cast(pa.binary()),
        b"",
    )
    hashes = map(xxhash.xxh3_64_hexdigest, joined.to_pylist())
    return pa.array(list(hashes), pa.string())


def _length_bytes(texts: pa.StringArray) -> pa.BinaryArray:
    """The length of each text in bytes, as 8 bytes, little-endian."""
    lengths = pc.binary_length(texts).to_numpy().astype("<u8")
    offsets = np.arange(len(texts) + 1, dtype=np.int32) * 8
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(lengths)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(texts), buffers)
