"""sentence-transformers' n-tuples: `anchor, positive, negative_1 … negative_k`, perhaps `scores`.

`mine_hard_negatives(output_format="n-tuple")` and `"triplet"` write them; `scores` holds the
score of the positive and then those of the negatives, without saying who scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from fletching.io.row_formats.column_types import (
    is_number_list,
    is_text,
    is_whole_number_list,
    negative_column,
    numbered_columns,
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

TEXT_LIST = pa.list_(pa.string())
NUMBER_LIST = pa.list_(pa.float32())
CARRIED = ("query", "pos", "neg", "pos_scores", "neg_scores")
SCORES = "scores"
STEMS = ("negative", "neg", "hard_negative", "negatives")  # of columns with numbers


def _negatives(columns: pa.Schema) -> list[str]:
    """The columns that hold one negative each."""
    numbered = numbered_columns(columns, STEMS)
    single = [name for name in (negative_column(columns), "hard_negative") if name in columns.names]
    return [name for name in [*single, *numbered] if is_text(columns, name)]


def _has_scores(columns: pa.Schema) -> bool:
    """Is there one number for the positive and each negative, and no 0 and 1 of labels?"""
    is_labels = is_whole_number_list(columns, SCORES)
    return is_number_list(columns, SCORES) and not is_labels


def _detect(columns: pa.Schema) -> bool:
    positive = positive_column(columns)
    if not query_column(columns) or not is_text(columns, positive):
        return False
    negatives = _negatives(columns)
    is_aliased = negatives == [negative_column(columns)]  # a triplet, which the contract reads
    return bool(negatives) and (not is_aliased or _has_scores(columns))


def _to_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    negatives = _negatives(batch.schema)
    texts_of_rows = list(zip(*(batch.column(name).to_pylist() for name in negatives)))
    present = [[text for text in texts if text is not None] for texts in texts_of_rows]
    converted = batch.drop_columns(negatives)
    if _has_scores(batch.schema):
        scores = batch.column(SCORES).to_pylist()
        of_positives = [None if row is None else row[:1] for row in scores]
        of_negatives = [_scores_of(*each) for each in zip(texts_of_rows, scores)]
        converted = converted.drop_columns([SCORES])
        converted = converted.append_column("pos_scores", pa.array(of_positives, NUMBER_LIST))
        converted = converted.append_column("neg_scores", pa.array(of_negatives, NUMBER_LIST))
    return converted.append_column("neg", pa.array(present, TEXT_LIST))


def _scores_of(texts: tuple[str | None, ...], scores: list[float] | None) -> list[float] | None:
    """The scores of the negatives that are there; the first score is the positive's."""
    if scores is None or len(scores) != len(texts) + 1:
        return scores and scores[1:]  # the contract refuses the row: one score for each text
    return [score for text, score in zip(texts, scores[1:]) if text is not None]


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    """One record for each positive, with as many negatives as most rows have."""
    account = WriteAccount()
    lengths = Counter(len(row["neg"] or []) for row in read_rows(batches, WriteAccount(), CARRIED))
    negatives = max(lengths, key=lambda length: (lengths[length], length), default=0)
    all_scored = all(_is_scored(row) for row in read_rows(batches, WriteAccount(), CARRIED))
    fields = [("anchor", pa.string()), ("positive", pa.string())]
    fields += [(f"negative_{number}", pa.string()) for number in range(1, negatives + 1)]
    if all_scored and negatives:
        fields.append((SCORES, NUMBER_LIST))
    columns = pa.schema(fields)
    records = _records(batches, account, negatives=negatives, with_scores=SCORES in columns.names)
    account.records = write_records(path, columns, records)
    return account


def _is_scored(row: Row) -> bool:
    return bool(row.get("pos_scores")) and row.get("neg_scores") is not None


def _records(
    batches: Batches, account: WriteAccount, *, negatives: int, with_scores: bool
) -> Iterator[Row]:
    carried = CARRIED if with_scores else CARRIED[:3]
    for row, number in each_positive(read_rows(batches, account, carried), account):
        texts = row["neg"] or []
        if len(texts) < negatives:
            count_lost(account, f"records with fewer than {negatives} negatives, left out")
            continue
        count_lost(account, f"negatives after the first {negatives}", len(texts) - negatives)
        record = {"anchor": row["query"], "positive": row["pos"][number]}
        record |= {f"negative_{rank}": text for rank, text in enumerate(texts[:negatives], 1)}
        if with_scores:
            record[SCORES] = [row["pos_scores"][number], *row["neg_scores"][:negatives]]
        if row["neg"] == []:
            count_lost(account, "rows that were mined without a negative")
        yield record


register(
    RowFormat(
        name="n-tuple",
        summary="sentence-transformers",
        columns="anchor, positive, negative_1 … negative_k; perhaps scores: [number]",
        becomes="the negatives in order as `neg`; `scores`, if any, as those of `pos` and `neg`",
        detect=_detect,
        to_examples=_to_examples,
        from_examples=_from_examples,
    )
)
