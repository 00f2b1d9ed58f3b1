"""Rows with their negatives and scores, and the filling of scores by a cross-encoder alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.encode.reranker import Reranker
from fletching.report import Report
from fletching.table import RaggedArray
from fletching.table.ragged_array import offsets_of
from hnmine.mine import MinedNegatives
from hnmine.mining_rows import MiningRows, list_lengths
from hnmine.options import Options
from hnmine.pool import DocumentPool

EXAMPLES = schema.load("examples")
PROTECTED = pa.array(["reranker", "label", "judge"])  # kinds of scores that are not overwritten
POSITIVE_SCORES = ("pos_scores", "pos_score_kind")
NEGATIVE_SCORES = ("neg_scores", "neg_score_kind")
PADDED = pa.field("neg_padded", pa.int32())

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


def mined_units(
    rows: MiningRows,
    columns: pa.Schema,
    *,
    pool: DocumentPool,
    mined: MinedNegatives,
    options: Options,
) -> Iterator[pa.RecordBatch]:
    """The rows of the shard with `neg` and scores."""
    replace_scores = options.replace_scores
    for start, unit in rows.numbered_units():
        new = _negative_columns(unit, start, pool=pool, mined=mined)
        new |= _positive_scores(unit, start, mined=mined, replace_scores=replace_scores)
        yield _assembled(unit, columns, new)


def scored_units(
    rows: MiningRows,
    columns: pa.Schema,
    *,
    reranker: Reranker,
    options: Options,
    report: Report,
) -> Iterator[pa.RecordBatch]:
    """The rows of the shard with a cross-encoder's score for each positive and negative."""
    replace_scores = options.replace_scores
    with report.progress("scoring", len(rows)) as progress:
        for unit in rows.units:
            new: Columns = {}
            for name in ("pos", "neg"):
                if name not in unit.schema.names:
                    continue
                scores = _reranker_scores(unit, name, reranker)
                if not replace_scores:
                    _count_kept(unit, name, report)
                    scores = scores.keep_better(unit, name)
                new |= scores.columns(name)
            yield _assembled(unit, columns, new)
            progress.advance(len(unit))


def _negative_columns(
    unit: pa.RecordBatch, start: int, *, pool: DocumentPool, mined: MinedNegatives
) -> Columns:
    """`neg` and what is aligned with it. start: the number of the unit's first row."""
    stop = start + len(unit)
    lists = _Slice.cut(mined.negatives, start, stop)
    numbers = mined.negatives.values[lists.values]
    scores = pa.array(mined.negative_scores[lists.values], pa.float32())
    if pool.has_ids:
        ids = pa.ListArray.from_arrays(lists.offsets, pool.ids(numbers))
    else:
        ids = pa.nulls(len(unit), pa.list_(pa.string()))
    return {
        "neg": pa.ListArray.from_arrays(lists.offsets, pool.texts(numbers)),
        "neg_scores": pa.ListArray.from_arrays(lists.offsets, scores),
        "neg_score_kind": pa.array([mined.score_kind] * len(unit)),
        "neg_ids": ids,
        PADDED.name: pa.array(mined.padded[start:stop], pa.int32()),
    }


def _positive_scores(
    unit: pa.RecordBatch, start: int, *, mined: MinedNegatives, replace_scores: bool
) -> Columns:
    """The scores of the unit's positives; better ones stay, unless `replace_scores`."""
    lists = _Slice.cut(mined.positives, start, start + len(unit))
    values = pa.array(mined.positive_scores[lists.values], pa.float32())
    kinds = pa.array([mined.score_kind] * len(unit))
    scores = _Scores(pa.ListArray.from_arrays(lists.offsets, values), kinds)
    if not replace_scores:
        scores = scores.keep_better(unit, "pos")
    return scores.columns("pos")


def _count_kept(unit: pa.RecordBatch, name: str, report: Report) -> None:
    measure = f"{name}_scores_kept"
    kept = pc.sum(_has_better_scores(unit, name)).as_py() or 0
    report.measures[measure] = report.measures.get(measure, 0) + kept


def _reranker_scores(unit: pa.RecordBatch, name: str, reranker: Reranker) -> _Scores:
    """The scores of the texts in a list column; null where the list is."""
    lists = unit[name]
    queries = unit["query"].take(pc.list_parent_indices(lists))
    scores = reranker.score(queries.to_pylist(), lists.flatten().to_pylist())
    offsets = pa.array(offsets_of(list_lengths(lists)), pa.int32())
    mask = lists.is_null() if lists.null_count else None
    values = pa.ListArray.from_arrays(offsets, pa.array(scores, pa.float32()), mask=mask)
    kinds = pc.if_else(lists.is_valid(), "reranker", pa.scalar(None, pa.string()))
    return _Scores(values, kinds)


@dataclass(frozen=True)
class _Slice:
    """The lists of some consecutive rows."""

    offsets: pa.Array  # int32, from 0
    values: slice  # of the whole array's values

    @classmethod
    def cut(cls, lists: RaggedArray, start: int, stop: int) -> _Slice:
        """The lists of the rows from `start` up to `stop`."""
        offsets = lists.offsets[start : stop + 1]
        values = slice(int(offsets[0]), int(offsets[-1]))
        return cls(pa.array(offsets - offsets[0], pa.int32()), values)


@dataclass(frozen=True)
class _Scores:
    """A column of score lists and their kinds."""

    values: pa.Array  # list<float32>
    kinds: pa.Array  # string

    def keep_better(self, unit: pa.RecordBatch, name: str) -> _Scores:
        """The unit's own scores where they are better, these elsewhere."""
        is_better = _has_better_scores(unit, name)
        before = schema.column(unit, f"{name}_scores", self.values.type)
        before_kinds = schema.column(unit, f"{name}_score_kind", pa.string())
        return _Scores(
            pc.if_else(is_better, before, self.values),
            pc.if_else(is_better, before_kinds, self.kinds),
        )

    def columns(self, name: str) -> Columns:
        """The two columns by name."""
        return {f"{name}_scores": self.values, f"{name}_score_kind": self.kinds}


def _has_better_scores(unit: pa.RecordBatch, name: str) -> pa.Array:
    """Which rows have scores of a reranker, label or judge."""
    kinds = schema.column(unit, f"{name}_score_kind", pa.string())
    scores = schema.column(unit, f"{name}_scores", pa.list_(pa.float32()))
    return pc.and_(pc.is_in(kinds, PROTECTED), scores.is_valid())


def _assembled(unit: pa.RecordBatch, columns: pa.Schema, new: Columns) -> pa.RecordBatch:
    arrays = []
    for field in columns:
        if field.name in new:
            arrays.append(new[field.name])
        else:
            arrays.append(schema.column(unit, field.name, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
