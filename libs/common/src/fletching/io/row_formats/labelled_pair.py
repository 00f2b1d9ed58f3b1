"""Labelled pairs: `sentence1, sentence2, score` of STS, `anchor, positive, label` and the like.

One document a row, with a number that says how well it fits: a label of `pos`. A loss over labels
(contrast-train --loss cosent) learns from it; other losses need --min-pos-score.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.io.row_formats.column_types import (
    SCORE_NAMES,
    first_of,
    is_number,
    is_text,
    negative_column,
    numbered_columns,
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

SENTENCES = ("sentence1", "sentence2")
CARRIED = ("query", "pos", "pos_scores", "pos_score_kind")


def _is_sentences(columns: pa.Schema) -> bool:
    return all(name in columns.names and is_text(columns, name) for name in SENTENCES)


def _detect(columns: pa.Schema) -> bool:
    if "pos_scores" in columns.names or not is_number(columns, _label(columns)):
        return False
    if negative_column(columns) or numbered_columns(columns, ("negative", "neg")):
        return False  # what the number rates is not known
    is_pair = bool(query_column(columns)) and is_text(columns, positive_column(columns))
    return is_pair or _is_sentences(columns)


def _label(columns: pa.Schema) -> str:
    return first_of(columns, SCORE_NAMES)


def _to_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    label = _label(batch.schema)
    scores = [None if value is None else [value] for value in batch.column(label).to_pylist()]
    others = batch.drop_columns([label])
    if not query_column(batch.schema):
        new_names = dict(zip(SENTENCES, ("query", "pos")))
        others = others.rename_columns([new_names.get(n, n) for n in others.schema.names])
    return with_labels(others, scores)


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    columns = pa.schema([(name, pa.string()) for name in SENTENCES] + [("score", pa.float32())])
    account.records = write_records(path, columns, _records(batches, account))
    return account


def _records(batches: Batches, account: WriteAccount) -> Iterator[Row]:
    for row, number in each_positive(read_rows(batches, account, CARRIED), account):
        if row.get("pos_scores") is None:
            count_lost(account, "records without a score, left out")
            continue
        if row.get("pos_score_kind") != "label":
            count_lost(account, "kinds of scores")
        texts = dict(zip(SENTENCES, (row["query"], row["pos"][number])))
        yield texts | {"score": row["pos_scores"][number]}


register(
    RowFormat(
        name="labelled-pair",
        summary="STS, sentence-transformers",
        columns="sentence1, sentence2, score; or anchor, positive, label",
        becomes="the pair with its label in `pos_scores`, see --loss cosent and --min-pos-score",
        detect=_detect,
        to_examples=_to_examples,
        from_examples=_from_examples,
    )
)
