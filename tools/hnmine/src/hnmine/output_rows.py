"""Rows with their negatives and scores, and the filling of scores by a cross-encoder alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.errors import InputError
from fletching.report import Report
from fletching.row_columns import list_lengths, lists_like
from fletching.score_protection import (
    SCORES,
    Side,
    have_protected_scores,
    have_scores_of_another_kind,
    may_write_scores,
)
from fletching.table.ragged_array import offsets_of
from hnmine.mined_negatives import MinedNegatives
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.queries import MiningRows
from hnmine.selection import NegativeKind

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker

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


def check_old_negatives(rows: MiningRows, options: Options, report: Report) -> None:
    """Say how many rows lose theirs. Raise InputError where --keep-neg would lose their scores.

    Mined negatives would have no such scores, and a list has scores for all or for none.
    """
    replaced = 0
    for unit in rows.units:
        if not options.keep_neg:
            replaced += len(unit) - schema.column(unit, "neg", pa.null()).null_count
        elif not options.replace_scores:
            is_protected = have_protected_scores(unit, "neg")
            is_lost = pc.and_(
                is_protected, have_scores_of_another_kind(unit, "neg", options.score_kind)
            )
            for row in unit.filter(is_lost)["id"].to_pylist()[:1]:
                raise InputError(
                    f"row {row!r} has `neg_scores` that are no cosines, and mined negatives would "
                    "have none",
                    "pass --replace-scores to score all of them anew, or leave --keep-neg out",
                )
    if replaced:
        report.note(f"{replaced:,} rows had negatives, which are replaced; --keep-neg keeps them")


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
    first_row = first_positive = 0
    for unit in rows.units:
        negatives = _negatives_of(mined.negatives, first_row, len(unit))
        first_row += len(unit)
        new = _negative_columns(negatives, len(unit), pool)
        last_positive = first_positive + int(list_lengths(unit["pos"]).sum())
        scores = pa.array(mined.positive_scores[first_positive:last_positive])
        first_positive = last_positive
        positive_scores = _score_columns("pos", lists_like(unit["pos"], scores), mined.score_kind)
        negative_scores = _score_columns("neg", new.pop("neg_scores"), mined.score_kind)
        if not options.replace_scores:
            is_protected = have_protected_scores(unit, "pos")
            positive_scores = _unless(is_protected, positive_scores, unit)
            # Beside scores of another kind those of the negatives would mean nothing.
            is_other = have_scores_of_another_kind(unit, "pos", mined.score_kind)
            is_mixed = pc.and_(is_protected, is_other)
            negative_scores = _unless(is_mixed, negative_scores, None)
            without_scores += is_mixed.true_count
        yield _assembled(unit, columns, new | negative_scores | positive_scores)
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
    texts = lists.flatten().to_pylist()
    scores = reranker.score(queries.to_pylist(), texts)
    return lists_like(lists, pa.array(scores))


def _negatives_of(negatives: pl.DataFrame, first_row: int, rows: int) -> pl.DataFrame:
    """Those of so many rows, which are numbered from 0."""
    start = int(negatives["row"].search_sorted(first_row))
    stop = int(negatives["row"].search_sorted(first_row + rows))
    part = negatives.slice(start, stop - start)
    return part.with_columns(pl.col("row") - first_row)


def _negative_columns(negatives: pl.DataFrame, rows: int, pool: DocumentPool) -> Columns:
    """`neg`, `neg_ids`, `neg_scores` and `neg_padded` of so many rows."""
    lengths = np.bincount(negatives["row"], minlength=rows)
    offsets = pa.array(offsets_of(lengths), pa.int32())
    numbers = negatives["candidate"].to_numpy()
    padding = negatives.filter(pl.col("kind") == NegativeKind.PADDING)
    padded = np.bincount(padding["row"], minlength=rows)
    ids = pa.nulls(rows, pa.list_(pa.string()))
    if pool.has_ids:
        ids = pa.ListArray.from_arrays(offsets, pool.ids(numbers))
    return {
        "neg": pa.ListArray.from_arrays(offsets, pool.texts(numbers)),
        "neg_ids": ids,
        "neg_scores": pa.ListArray.from_arrays(offsets, pa.array(negatives["score"].to_numpy())),
        PADDED.name: pa.array(padded, pa.int32()),
    }


def _assembled(unit: pa.RecordBatch, columns: pa.Schema, new: Columns) -> pa.RecordBatch:
    arrays = []
    for field in columns:
        if field.name in new:
            arrays.append(new[field.name])
        else:
            arrays.append(schema.column(unit, field.name, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
