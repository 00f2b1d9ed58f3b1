"""RAG-Retrieval's JSON lines: pairs, hard negatives, or positives with `scores`.

`scores` rates each text of `pos`, as a person or an LLM would: 0.2 is hardly a positive. They are
read as labels, so that losses over labels learn from them and --min-pos-score leaves out low ones.
Texts for distillation (`query` alone, beside a memmap of teacher vectors) are read by distill.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.io.row_formats.column_types import (
    is_number_list,
    is_text_list,
    is_whole_number_list,
    positive_column,
    query_column,
)
from fletching.io.row_formats.labels import with_labels
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import (
    Row,
    columns_with_values,
    count_lost,
    read_rows,
    write_records,
)

SCORES = "scores"
NAMES = {
    "query": "query",
    "pos": "pos",
    "neg": "neg",
    "pos_scores": SCORES,
    "prompt": "prompt_for_query",
}
CARRIED = (*NAMES, "pos_score_kind")


def _detect(columns: pa.Schema) -> bool:
    is_rated = is_number_list(columns, SCORES) and not is_whole_number_list(columns, SCORES)
    is_listed = is_text_list(columns, positive_column(columns))
    return bool(query_column(columns)) and is_listed and is_rated


def _to_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    scores = batch.column(SCORES).to_pylist()
    return with_labels(batch.drop_columns([SCORES]), scores)


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    types = {"pos": pa.list_(pa.string()), "neg": pa.list_(pa.string())}
    types["pos_scores"] = pa.list_(pa.float32())
    filled = columns_with_values(batches, tuple(NAMES))
    if not any(_is_rated(row) for row in read_rows(batches, WriteAccount())):
        filled = [name for name in filled if name != "pos_scores"]
    columns = pa.schema([(NAMES[name], types.get(name, pa.string())) for name in filled])
    account.records = write_records(path, columns, _records(batches, account))
    return account


def _is_rated(row: Row) -> bool:
    """Has the row scores that their reader takes: it ignores those beside negatives."""
    return row.get("pos_scores") is not None and row.get("neg") is None


def _records(batches: Batches, account: WriteAccount) -> Iterator[Row]:
    for row in read_rows(batches, account, CARRIED):
        record = {theirs: row.get(ours) for ours, theirs in NAMES.items()}
        if record[SCORES] is not None and not _is_rated(row):
            count_lost(account, "scores of rows with negatives, which their reader ignores")
            record[SCORES] = None
        elif record[SCORES] is not None and row.get("pos_score_kind") != "label":
            count_lost(account, "kinds of scores")
        yield record


register(
    RowFormat(
        name="rag-retrieval",
        summary="RAG-Retrieval",
        columns="query, pos: [text], neg: [text] or scores: [number], prompt_for_query",
        becomes="`scores` as labels of `pos`; a low one is no positive, see --min-pos-score",
        detect=_detect,
        to_examples=_to_examples,
        from_examples=_from_examples,
    )
)
