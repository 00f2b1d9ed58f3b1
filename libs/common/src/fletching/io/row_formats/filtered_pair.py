"""Pairs with a cosine: `query, document, cos_sim`, as `simfilter --as-pairs` writes them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.io.row_formats.column_types import (
    is_number,
    is_text,
    positive_column,
    query_column,
)
from fletching.io.row_formats.labels import with_labels
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import (
    Row,
    count_lost,
    each_positive,
    read_rows,
    write_records,
)

COSINE = "cos_sim"
CARRIED = ("query", "pos", "pos_scores", "pos_score_kind")


def _detect(columns: pa.Schema) -> bool:
    is_pair = bool(query_column(columns)) and is_text(columns, positive_column(columns))
    return is_pair and is_number(columns, COSINE) and "pos_scores" not in columns.names


def _to_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    values = batch.column(COSINE).to_pylist()
    scores = [None if value is None else [value] for value in values]
    return with_labels(batch.drop_columns([COSINE]), scores, "cosine")


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    names = [("query", pa.string()), ("document", pa.string()), (COSINE, pa.float32())]
    account.records = write_records(path, pa.schema(names), _records(batches, account))
    return account


def _records(batches: Batches, account: WriteAccount) -> Iterator[Row]:
    for row, number in each_positive(read_rows(batches, account, CARRIED), account):
        record = {"query": row["query"], "document": row["pos"][number]}
        if row.get("pos_scores") is not None and row.get("pos_score_kind") == "cosine":
            record[COSINE] = row["pos_scores"][number]
        elif row.get("pos_scores") is not None:
            count_lost(account, "scores that are no cosines")
        yield record


register(
    RowFormat(
        name="filtered-pair",
        summary="consistency filters, simfilter --as-pairs",
        columns="query, document, cos_sim",
        becomes="the pair with `cos_sim` in `pos_scores`, a cosine",
        detect=_detect,
        to_examples=_to_examples,
        from_examples=_from_examples,
    )
)
