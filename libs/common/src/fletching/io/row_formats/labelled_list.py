"""sentence-transformers' labelled lists: a query, its documents and a label for each.

Where a row's labels are 0 and 1, 0 says that a document is no answer: it becomes a negative. Other
numbers are graded labels of the documents, as are fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from fletching.io.row_formats.column_types import (
    SCORE_NAMES,
    first_of,
    is_number_list,
    is_text_list,
    is_whole_number_list,
    names_of,
    negative_column,
    query_column,
)
from fletching.io.row_formats.labels import with_labels
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import Row, count_lost, read_rows, write_records

DOCUMENTS = ("documents", "docs", "passages")
TEXTS = pa.list_(pa.string())


def _documents(columns: pa.Schema) -> str:
    names = (*names_of("pos"), *DOCUMENTS)
    return next((name for name in names if is_text_list(columns, name)), "")


def _labels(columns: pa.Schema) -> str:
    return first_of(columns, SCORE_NAMES)


def _detect(columns: pa.Schema) -> bool:
    labels = _labels(columns)
    is_labelled = is_number_list(columns, labels) or is_whole_number_list(columns, labels)
    if not (query_column(columns) and _documents(columns) and is_labelled):
        return False
    is_graded_list = labels == "scores" and not is_whole_number_list(columns, labels)
    return not is_graded_list or _documents(columns) in DOCUMENTS  # else RAG-Retrieval's


def _to_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    documents, labels = _documents(batch.schema), _labels(batch.schema)
    texts = batch.column(documents).to_pylist()
    values = batch.column(labels).to_pylist()
    others = batch.drop_columns([documents, labels])
    if not is_whole_number_list(batch.schema, labels):
        listed = others.append_column("pos", pa.array(texts, TEXTS))
        return with_labels(listed, values)
    negatives = negative_column(batch.schema)
    earlier = batch.column(negatives).to_pylist() if negatives else [None] * len(texts)
    rows = [_parted(*row) for row in zip(texts, values, earlier)]
    if negatives:
        others = others.drop_columns([negatives])
    positives = pa.array([row.positives for row in rows], TEXTS)
    parted = others.append_column("pos", positives)
    parted = parted.append_column("neg", pa.array([row.negatives for row in rows], TEXTS))
    return with_labels(parted, [row.labels for row in rows])


class _Parted(NamedTuple):
    """Documents by their labels. labels: of the positives, where they are graded."""

    positives: list[str] | None
    negatives: list[str] | None
    labels: list[int] | None


def _parted(
    texts: list[str] | None, labels: list[int] | None, negatives: list[str] | str | None
) -> _Parted:
    """The documents of label 1 and of label 0; all of them with their labels where others occur."""
    negatives = [negatives] if isinstance(negatives, str) else negatives
    if texts is None or labels is None or len(texts) != len(labels):
        return _Parted(texts, negatives, labels)  # refused: one label for each document
    if not set(labels) <= {0, 1}:
        return _Parted(texts, negatives, labels)
    positives = [text for text, label in zip(texts, labels) if label]
    others = [text for text, label in zip(texts, labels) if not label]
    return _Parted(positives, [*(negatives or []), *others], None)


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    columns = pa.schema(
        [("query", pa.string()), ("documents", TEXTS), ("labels", pa.list_(pa.int64()))]
    )
    account.records = write_records(path, columns, _records(batches, account))
    return account


def _records(batches: Batches, account: WriteAccount) -> Iterator[Row]:
    for row in read_rows(batches, account, ("query", "pos", "neg")):
        negatives = row.get("neg")
        if negatives is None:
            count_lost(account, "rows that were not mined, which look as if without a negative")
        documents = [*row["pos"], *(negatives or [])]
        labels = [1] * len(row["pos"]) + [0] * len(negatives or [])
        yield {"query": row["query"], "documents": documents, "labels": labels}


register(
    RowFormat(
        name="labelled-list",
        summary="sentence-transformers",
        columns="query, documents: [text], labels: [0 or 1]; or graded labels",
        becomes="documents of label 0 as `neg`, others as `pos`; graded labels as `pos_scores`",
        detect=_detect,
        to_examples=_to_examples,
        from_examples=_from_examples,
    )
)
