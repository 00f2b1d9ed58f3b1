"""Tevatron's JSON lines: `query_id, query, positive_passages, negative_passages`.

A passage is {docid, title, text} and perhaps a `score`; encoders put the title and a blank before
the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow.types import is_null, is_struct

from fletching.arrow_types import canonical, is_any_list
from fletching.io.row_formats.column_types import is_record_list
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import (
    Row,
    columns_with_values,
    read_rows,
    write_records,
)
from fletching.text import titled

Passage = Mapping[str, Any]
SIDES = {"pos": "positive_passages", "neg": "negative_passages"}
TEXTS = pa.list_(pa.string())
FLOATS = pa.list_(pa.float32())
CARRIED = ("id", "query", "pos", "neg", "pos_ids", "neg_ids", "pos_scores", "neg_scores")


def _detect(columns: pa.Schema) -> bool:
    return is_record_list(columns, "positive_passages", "text") and (
        is_record_list(columns, "negative_passages", "text")
        or _holds_nothing(columns, "negative_passages")
    )


def _holds_nothing(columns: pa.Schema, name: str) -> bool:
    """Is the column absent, or without a passage in any row?"""
    index = columns.get_field_index(name)
    kind = canonical(columns.field(index).type) if index >= 0 else pa.null()
    return is_null(kind) or (is_any_list(kind) and is_null(kind.value_type))


def _to_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    converted = batch.drop_columns([n for n in SIDES.values() if n in batch.schema.names])
    if "query_id" in batch.schema.names and "id" not in batch.schema.names:
        names = ["id" if name == "query_id" else name for name in converted.schema.names]
        converted = converted.rename_columns(names)
    for side, name in SIDES.items():
        if name in batch.schema.names:
            kind = canonical(batch.schema.field(name).type)
            passages = batch.column(name).to_pylist()
            for column, values in _columns_of(side, passages, kind):
                converted = converted.append_column(column, values)
    return converted


def _columns_of(
    side: str, passages: Sequence[Sequence[Passage] | None], kind: pa.DataType
) -> Iterator[tuple[str, pa.Array]]:
    """The texts of the passages, and their ids and scores where they have some."""
    texts = [None if row is None else [_text(passage) for passage in row] for row in passages]
    yield side, pa.array(texts, TEXTS)
    has_keys = is_any_list(kind) and is_struct(kind.value_type)
    keys = {key.name for key in kind.value_type} if has_keys else set()
    if "docid" in keys:
        ids = [_values(row, "docid") for row in passages]
        as_text = [None if row is None else [str(item) for item in row] for row in ids]
        yield f"{side}_ids", pa.array(as_text, TEXTS)
    if "score" in keys:
        yield f"{side}_scores", pa.array([_values(row, "score") for row in passages], FLOATS)


def _text(passage: Passage | None) -> str | None:
    if passage is None:
        return None
    return None if passage.get("text") is None else titled(passage.get("title"), passage["text"])


def _values(passages: Sequence[Passage] | None, key: str) -> list[Any] | None:
    """The values of one key; None where a passage has none."""
    values = [None if passage is None else passage.get(key) for passage in passages or []]
    return None if passages is None or None in values else values


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    filled = columns_with_values(batches, CARRIED)
    keys = [("title", pa.string()), ("text", pa.string())]
    if {"pos_ids", "neg_ids"} & set(filled):
        keys.insert(0, ("docid", pa.string()))
    if {"pos_scores", "neg_scores"} & set(filled):
        keys.append(("score", pa.float32()))
    passages = pa.list_(pa.struct(keys))
    fields = [("query_id", pa.string()), ("query", pa.string())]
    fields += [(name, passages) for side, name in SIDES.items() if side in filled]
    account.records = write_records(path, pa.schema(fields), _records(batches, account))
    return account


def _records(batches: Batches, account: WriteAccount) -> Iterator[Row]:
    for row in read_rows(batches, account, CARRIED):
        sides = {name: _passages(row, side) for side, name in SIDES.items()}
        yield {"query_id": row["id"], "query": row["query"]} | sides


def _passages(row: Row, side: str) -> list[dict[str, Any]] | None:
    texts = row.get(side)
    if texts is None:
        return None
    ids = row.get(f"{side}_ids") or [None] * len(texts)
    scores = row.get(f"{side}_scores") or [None] * len(texts)
    return [
        {"docid": identity, "title": "", "text": text, "score": score}
        for identity, text, score in zip(ids, texts, scores)
    ]


register(
    RowFormat(
        name="tevatron",
        summary="Tevatron",
        columns="query_id, query, positive_passages: [{docid, title, text}], negative_passages",
        becomes="title and text as `pos` and `neg`, docid as `pos_ids` and `neg_ids`",
        detect=_detect,
        to_examples=_to_examples,
        from_examples=_from_examples,
    )
)
