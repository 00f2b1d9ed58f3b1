"""Rows with their negatives and scores, and the filling of scores by a cross-encoder alone."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.encode.reranker import Reranker
from fletching.errors import InputError
from fletching.report import Report
from fletching.score_protection import (
    SCORES,
    Side,
    have_protected_scores,
    have_scores_of_another_kind,
    may_write_scores,
)
from fletching.table import RaggedArray
from fletching.table.ragged_array import offsets_of
from hnmine.mine import MinedNegatives
from hnmine.mining_rows import MiningRows, list_lengths
from hnmine.options import Options
from hnmine.pool import DocumentPool

EXAMPLES = schema.load("examples")
POSITIVE_SCORES = ("pos_scores", "pos_score_kind")
NEGATIVE_SCORES = ("neg_scores", "neg_score_kind")
PADDED = pa.field("neg_padded", pa.int32())
SIDES: tuple[Side, ...] = ("pos", "neg")

Columns = dict[str, pa.Array]


def columns_of(options: Options, columns: pa.Schema) -> pa.Schema:
    """The columns that are written, from those of the input."""
    if options.score_all:
        negative_scores = NEGATIVE_SCORES if "neg" in columns.names else ()
        return schema.extend(EXAMPLES, columns, *POSITIVE_SCORES, *negative_scores)
    names = (*POSITIVE_SCORES, *NEGATIVE_SCORES, "neg", "neg_ids")
    extended = schema.extend(EXAMPLES, columns, *names)
    if options.pad and PADDED.name not in extended.names:
        return extended.append(PADDED)
    return extended


def check_kept_negatives(rows: MiningRows, options: Options) -> None:
    """Raise InputError where --keep-neg would lose scores that are protected.

    Mined negatives would have no such scores, and a list has scores for all or for none.
    """
    kind = "reranker" if options.reranker else "cosine"
    for unit in rows.units if options.keep_neg and not options.replace_scores else ():
        is_lost = pc.and_(
            have_protected_scores(unit, "neg"), have_scores_of_another_kind(unit, "neg", kind)
        )
        for row in unit.filter(is_lost)["id"].to_pylist()[:1]:
            raise InputError(
                f"row {row!r} has `neg_scores` that are no cosines, and mined negatives would "
                "have none",
                "pass --replace-scores to score all of them anew, or leave --keep-neg out",
            )


def mined_units(
    rows: MiningRows,
    columns: pa.Schema,
    *,
    pool: DocumentPool,
    mined: MinedNegatives,
    options: Options,
    report: Report,
) -> Iterator[pa.RecordBatch]:
    """The rows of the shard with `neg` and scores."""
    without_scores = 0
    for start, unit in rows.numbered_units():
        part = mined.slice(start, start + len(unit))
        negatives = _score_columns("neg", _list_array(part.negative_scores), mined.score_kind)
        positives = _score_columns("pos", _list_array(part.positive_scores), mined.score_kind)
        if not options.replace_scores:
            is_protected = have_protected_scores(unit, "pos")
            positives = _unless(is_protected, positives, unit)
            # Beside scores of another kind those of the negatives would mean nothing.
            is_mixed = pc.and_(
                is_protected, have_scores_of_another_kind(unit, "pos", mined.score_kind)
            )
            negatives = _unless(is_mixed, negatives, None)
            without_scores += is_mixed.true_count
        texts = _negative_columns(part, pool)
        yield _assembled(unit, columns, texts | negatives | positives)
    if without_scores:
        report.measures["rows_without_neg_scores"] = without_scores
        report.note(
            f"{without_scores:,} rows keep `pos_scores` that are no {mined.score_kind} scores, so "
            "their negatives get none; --replace-scores writes both"
        )


def scored_units(
    rows: MiningRows,
    columns: pa.Schema,
    *,
    reranker: Reranker,
    options: Options,
    report: Report,
) -> Iterator[pa.RecordBatch]:
    """The rows of the shard with a cross-encoder's score for each positive and negative."""
    rows_kept = 0
    sides = [side for side in SIDES if side in columns.names]
    with report.progress("scoring", len(rows)) as progress:
        for unit in rows.units:
            new: Columns = {}
            is_kept = pa.array([False] * len(unit), pa.bool_())
            for side in sides:
                scores = _score_columns(side, _reranker_scores(unit, side, reranker), "reranker")
                if not options.replace_scores:
                    must_stay = pc.invert(may_write_scores(unit, side, "reranker"))
                    scores = _unless(must_stay, scores, unit)
                    is_kept = pc.or_(is_kept, must_stay)
                    measure = f"{side}_scores_kept"
                    protected = have_protected_scores(unit, side).true_count
                    report.measures[measure] = report.measures.get(measure, 0) + protected
                new |= scores
            rows_kept += is_kept.true_count
            yield _assembled(unit, columns, new)
            progress.advance(len(unit))
    if rows_kept:
        report.note(
            f"{rows_kept:,} rows keep scores that are no cosines; --replace-scores overwrites them"
        )


def _score_columns(side: Side, lists: pa.ListArray, kind: str) -> Columns:
    """Scores and their kind, null where there is no list."""
    kinds = pc.if_else(lists.is_valid(), kind, pa.scalar(None, pa.string()))
    return {f"{side}_scores": lists.cast(SCORES), f"{side}_score_kind": kinds}


def _unless(mask: pa.BooleanArray, new: Columns, rows: pa.RecordBatch | None) -> Columns:
    """The new columns; where the mask holds what the rows have instead, or nulls without rows."""
    merged = {}
    for name, values in new.items():
        before = pa.nulls(len(mask), values.type)
        if rows is not None:
            before = schema.column(rows, name, values.type)
        merged[name] = pc.if_else(mask, before, values)
    return merged


def _reranker_scores(unit: pa.RecordBatch, side: Side, reranker: Reranker) -> pa.ListArray:
    """The scores of the texts in a list column; null where the list is."""
    lists = unit[side]
    queries = unit["query"].take(pc.list_parent_indices(lists))
    scores = reranker.score(queries.to_pylist(), lists.flatten().to_pylist())
    offsets = pa.array(offsets_of(list_lengths(lists)), pa.int32())
    mask = lists.is_null() if lists.null_count else None
    return pa.ListArray.from_arrays(offsets, pa.array(scores), mask=mask)


def _negative_columns(part: MinedNegatives, pool: DocumentPool) -> Columns:
    """`neg`, `neg_ids` and `neg_padded`."""
    numbers = part.negatives
    ids = pa.nulls(len(numbers), pa.list_(pa.string()))
    if pool.has_ids:
        ids = _list_array(numbers, pool.ids(numbers.values))
    return {
        "neg": _list_array(numbers, pool.texts(numbers.values)),
        "neg_ids": ids,
        PADDED.name: pa.array(part.padded),
    }


def _list_array(lists: RaggedArray, values: pa.Array | None = None) -> pa.ListArray:
    """The lists, or lists of the same lengths of other values."""
    items = pa.array(lists.values) if values is None else values
    return pa.ListArray.from_arrays(pa.array(lists.offsets, pa.int32()), items)


def _assembled(unit: pa.RecordBatch, columns: pa.Schema, new: Columns) -> pa.RecordBatch:
    arrays = []
    for field in columns:
        if field.name in new:
            arrays.append(new[field.name])
        else:
            arrays.append(schema.column(unit, field.name, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
