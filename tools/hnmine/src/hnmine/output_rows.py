"""Rows with their negatives and scores, and the filling of scores by a cross-encoder alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.encode.reranker import Reranker
from fletching.errors import InputError
from fletching.report import Report
from fletching.score_protection import (
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
        stop = start + len(unit)
        negatives = _mined_scores(mined, "neg", start, stop)
        positives = _mined_scores(mined, "pos", start, stop)
        if not options.replace_scores:
            is_protected = have_protected_scores(unit, "pos")
            positives = positives.unless(is_protected, unit, "pos")
            # Beside scores of another kind those of the negatives would mean nothing.
            is_mixed = pc.and_(
                is_protected, have_scores_of_another_kind(unit, "pos", mined.score_kind)
            )
            negatives = negatives.unless(is_mixed)
            without_scores += is_mixed.true_count
        new = _negative_columns(mined, start, stop, pool=pool)
        new |= negatives.columns("neg") | positives.columns("pos")
        yield _assembled(unit, columns, new)
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
    with report.progress("scoring", len(rows)) as progress:
        for unit in rows.units:
            new: Columns = {}
            is_kept = pa.array([False] * len(unit), pa.bool_())
            for side in SIDES:
                if side not in unit.schema.names:
                    continue
                scores = _reranker_scores(unit, side, reranker)
                if not options.replace_scores:
                    must_stay = pc.invert(may_write_scores(unit, side, "reranker"))
                    scores = scores.unless(must_stay, unit, side)
                    is_kept = pc.or_(is_kept, must_stay)
                    measure = f"{side}_scores_kept"
                    protected = have_protected_scores(unit, side).true_count
                    report.measures[measure] = report.measures.get(measure, 0) + protected
                new |= scores.columns(side)
            rows_kept += is_kept.true_count
            yield _assembled(unit, columns, new)
            progress.advance(len(unit))
    if rows_kept:
        report.note(
            f"{rows_kept:,} rows keep scores that are no cosines; --replace-scores overwrites them"
        )


@dataclass(frozen=True)
class _Scores:
    """A column of score lists and their kinds."""

    values: pa.Array  # list<float32>
    kinds: pa.Array  # string

    def unless(
        self, mask: pa.BooleanArray, unit: pa.RecordBatch | None = None, side: Side = "pos"
    ) -> _Scores:
        """These where the mask is false, elsewhere the unit's own; nulls without a unit."""
        values = pa.nulls(len(mask), self.values.type)
        kinds = pa.nulls(len(mask), pa.string())
        if unit is not None:
            values = schema.column(unit, f"{side}_scores", self.values.type)
            kinds = schema.column(unit, f"{side}_score_kind", pa.string())
        return _Scores(pc.if_else(mask, values, self.values), pc.if_else(mask, kinds, self.kinds))

    def columns(self, side: Side) -> Columns:
        """The two columns by name."""
        return {f"{side}_scores": self.values, f"{side}_score_kind": self.kinds}


def _mined_scores(mined: MinedNegatives, side: Side, start: int, stop: int) -> _Scores:
    """The scores of the rows from `start` up to `stop`."""
    every = mined.negative_scores if side == "neg" else mined.positive_scores
    lists = every.slice(start, stop)
    kinds = pa.array([mined.score_kind] * len(lists), pa.string())
    return _Scores(_list_array(lists, pa.array(lists.values, pa.float32())), kinds)


def _list_array(lists: RaggedArray, values: pa.Array) -> pa.ListArray:
    """Lists of the same lengths, of other values."""
    return pa.ListArray.from_arrays(pa.array(lists.offsets, pa.int32()), values)


def _reranker_scores(unit: pa.RecordBatch, side: Side, reranker: Reranker) -> _Scores:
    """The scores of the texts in a list column; null where the list is."""
    lists = unit[side]
    queries = unit["query"].take(pc.list_parent_indices(lists))
    scores = reranker.score(queries.to_pylist(), lists.flatten().to_pylist())
    offsets = pa.array(offsets_of(list_lengths(lists)), pa.int32())
    mask = lists.is_null() if lists.null_count else None
    values = pa.ListArray.from_arrays(offsets, pa.array(scores, pa.float32()), mask=mask)
    kinds = pc.if_else(lists.is_valid(), "reranker", pa.scalar(None, pa.string()))
    return _Scores(values, kinds)


def _negative_columns(
    mined: MinedNegatives, start: int, stop: int, *, pool: DocumentPool
) -> Columns:
    """`neg`, `neg_ids` and `neg_padded` of the rows from `start` up to `stop`."""
    lists = mined.negatives.slice(start, stop)
    ids = pa.nulls(len(lists), pa.list_(pa.string()))
    if pool.has_ids:
        ids = _list_array(lists, pool.ids(lists.values))
    return {
        "neg": _list_array(lists, pool.texts(lists.values)),
        "neg_ids": ids,
        PADDED.name: pa.array(mined.padded[start:stop], pa.int32()),
    }


def _assembled(unit: pa.RecordBatch, columns: pa.Schema, new: Columns) -> pa.RecordBatch:
    arrays = []
    for field in columns:
        if field.name in new:
            arrays.append(new[field.name])
        else:
            arrays.append(schema.column(unit, field.name, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
