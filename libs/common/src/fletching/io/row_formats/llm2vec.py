"""llm2vec's and echo embeddings' JSON lines: one text each in `query, positive, negative`.

One file a task, whose name decides the instruction.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.io.row_formats.column_types import is_text
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import (
    Row,
    count_lost,
    each_positive,
    read_rows,
    write_records,
)

NAMES = ("query", "positive", "negative")


def _detect(columns: pa.Schema) -> bool:
    return all(name in columns.names and is_text(columns, name) for name in NAMES)


def _records(batches: Batches, account: WriteAccount) -> Iterator[Row]:
    """One record for each positive, with the first negative of its row."""
    rows = read_rows(batches, account, ("query", "pos", "neg"))
    for row, number in each_positive(rows, account):
        negatives = row.get("neg") or []
        if not negatives:
            count_lost(account, "records without a negative, left out")
            continue
        count_lost(account, "negatives after the first", len(negatives) - 1)
        yield dict(zip(NAMES, (row["query"], row["pos"][number], negatives[0])))


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    columns = pa.schema([(name, pa.string()) for name in NAMES])
    account.records = write_records(path, columns, _records(batches, account))
    return account


register(
    RowFormat(
        name="llm2vec",
        summary="llm2vec, echo embeddings",
        columns="query, positive: text, negative: text",
        becomes="`pos` and `neg` of one text each",
        detect=_detect,
        from_examples=_from_examples,
    )
)
