"""Pairs of sentence-transformers: one text a column.

`anchor, positive` are aliases of the contract; here are the names of pairs that are none:
`question, answer`, `query, answer`, `query, response` and the sentences of a bitext.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.io.row_formats.column_types import (
    SCORE_NAMES,
    is_text,
    names_of,
    positive_column,
)
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import (
    Row,
    each_positive,
    read_rows,
    write_records,
)

NAMES = (
    ("question", "answer"),
    ("query", "answer"),
    ("query", "response"),
    ("sentence1", "sentence2"),
)


def _detect(columns: pa.Schema) -> bool:
    return _names(columns) is not None


def _names(columns: pa.Schema) -> tuple[str, str] | None:
    """The columns of query and positive, where they are no aliases and no label rates them."""
    if positive_column(columns) or not set(columns.names).isdisjoint(SCORE_NAMES):
        return None
    for names in NAMES:
        if all(name in columns.names and is_text(columns, name) for name in names):
            return names
    return None


def _to_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    query, positive = _names(batch.schema) or ("query", "pos")
    new_names = {positive: "pos"}
    if query not in names_of("query"):
        new_names[query] = "query"
    return batch.rename_columns([new_names.get(name, name) for name in batch.schema.names])


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    rows = read_rows(batches, account, ("query", "pos"))
    records: Iterator[Row] = (
        {"anchor": row["query"], "positive": row["pos"][number]}
        for row, number in each_positive(rows, account)
    )
    columns = pa.schema([("anchor", pa.string()), ("positive", pa.string())])
    account.records = write_records(path, columns, records)
    return account


register(
    RowFormat(
        name="pair",
        summary="sentence-transformers",
        columns="anchor, positive; or question, answer; query, response; sentence1, sentence2",
        becomes="the first as `query`, the second as `pos`",
        detect=_detect,
        to_examples=_to_examples,
        from_examples=_from_examples,
    )
)
