"""Triplets of sentence-transformers: `anchor, positive, negative`, one text a column."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.io.row_formats.column_types import (
    is_text,
    negative_column,
    positive_column,
    query_column,
)
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import (
    Row,
    count_lost,
    each_positive,
    read_rows,
    write_records,
)


def _detect(columns: pa.Schema) -> bool:
    names = (query_column(columns), positive_column(columns), negative_column(columns))
    return all(name and is_text(columns, name) for name in names)


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    names = [(name, pa.string()) for name in ("anchor", "positive", "negative")]
    account.records = write_records(path, pa.schema(names), triplets(batches, account))
    return account


def triplets(batches: Batches, account: WriteAccount) -> Iterator[Row]:
    """A record for each positive with each negative of its row."""
    rows = read_rows(batches, account, ("query", "pos", "neg"))
    for row, number in each_positive(rows, account):
        negatives = row.get("neg") or []
        if not negatives:
            count_lost(account, "records without a negative, left out")
        if len(negatives) > 1:
            count_lost(account, "lists of negatives, which became a record for each")
        for negative in negatives:
            yield {"anchor": row["query"], "positive": row["pos"][number], "negative": negative}


register(
    RowFormat(
        name="triplet",
        summary="sentence-transformers",
        columns="anchor, positive, negative",
        becomes="`query`, `pos` and `neg`",
        detect=_detect,
        from_examples=_from_examples,
    )
)
