"""--relabel: negatives that score like a positive become positives, or go.

Mined negatives hold unlabelled positives, which a contrastive loss pushes away from their query;
RLHN (Thakur et al. 2025, arXiv 2505.16967) lets a judge move them to the positives. The judge is
the scorer of the run: a cross-encoder, an LLM (`synthgen --job judge`, read by --use-scores), or
the cosine of --model. A negative with the score s in a row whose lowest positive scores p is

moved     with s >= b, where b is the larger of --relabel-above and p - --relabel-margin
dropped   with b > s >= b - --relabel-drop: too near to call; or as a copy of another text
kept      otherwise
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.arrays import Mask, Numbers, Scores
from fletching.errors import InputError
from fletching.report import Report
from fletching.row_columns import list_owners
from fletching.score_protection import Side, may_write_scores
from fletching.table.ragged_array import offsets_of
from fletching.text import content_id
from simfilter.options import Options
from simfilter.scorers import OF_THE_INPUT, Scorer

TEXTS = pa.list_(pa.string())
SCORES = pa.list_(pa.float32())
# What was moved or dropped, with its score and why; of earlier runs first.
COLUMNS = pa.schema(
    [("relabelled", TEXTS), ("relabelled_scores", SCORES), ("relabelled_reasons", TEXTS)]
)
NEGATIVE_SCORES = ("neg_scores", "neg_score_kind")
MOVED = "moved"
COPY = "dropped: copy"
UNCERTAIN = "dropped: too near to call"
KEPT = "kept"
FATE = pl.Enum([MOVED, COPY, UNCERTAIN, KEPT])
CHANGED = ("text", "score", "fate")  # of a frame of texts, in the order of COLUMNS


@dataclass(frozen=True, kw_only=True)
class RelabelledUnit:
    """Rows with other sides, and the scores of their positives (p,) and negatives (n,)."""

    rows: pa.RecordBatch
    positive_scores: Scores
    negative_scores: Scores


def relabelled_columns(columns: pa.Schema) -> pa.Schema:
    """The columns of relabelled rows. Raises InputError where the input has no negatives."""
    if "neg" not in columns.names:
        raise InputError("--relabel: the input has no column `neg`", "mine negatives with hnmine")
    columns = schema.extend(schema.load("examples"), columns, *NEGATIVE_SCORES)
    for field in COLUMNS:
        if field.name not in columns.names:
            columns = columns.append(field)
    return columns


def fate_of(options: Options) -> pl.Expr:
    """What becomes of a negative, over the columns score, positive_score and is_copy."""
    bounds = []
    if options.relabel_above is not None:
        bounds.append(pl.lit(options.relabel_above, pl.Float32))
    if options.relabel_margin is not None or not bounds:
        margin = pl.lit(options.relabel_margin or 0.0, pl.Float32)
        bounds.append(pl.col("positive_score") - margin)
    bound = pl.max_horizontal(bounds)
    drop = pl.lit(options.relabel_drop, pl.Float32)
    return (
        pl.when(pl.col("is_copy"))
        .then(pl.lit(COPY, FATE))
        .when(pl.col("score") >= bound)
        .then(pl.lit(MOVED, FATE))
        .when(pl.col("score") >= bound - drop)
        .then(pl.lit(UNCERTAIN, FATE))
        .otherwise(pl.lit(KEPT, FATE))
    )


class Relabeller:
    """Relabels unit by unit. kind: of the scores, an entry of SCORERS."""

    def __init__(self, options: Options, *, kind: str) -> None:
        self.options = options
        self.kind = kind
        self.fates: Counter[str] = Counter()
        self.rows_changed = 0

    def relabel(self, rows: pa.RecordBatch, scorer: Scorer) -> RelabelledUnit:
        """The rows after scoring both sides; scores of sides to be written anew are null.

        A row whose scores are protected, or with --use-scores lacks some, keeps its sides.
        """
        self._check_scores(rows)
        texts = pl.concat([_texts(rows, "pos"), _texts(rows, "neg")])
        texts = texts.sort("row", maintain_order=True)
        scores = pl.Series("score", scorer(_joined(rows, texts)), pl.Float32)
        texts = texts.with_columns(scores)
        is_changed = pl.col("row").is_in(np.flatnonzero(self._may_change(rows)))
        is_negative = pl.col("side") == "neg"
        lowest = pl.col("score").filter(~is_negative).min().over("row")
        is_repeated = pl.int_range(pl.len()).over("row", "key") > 0
        texts = texts.with_columns(positive_score=lowest, is_copy=is_repeated)
        fate = pl.when(is_changed).then(fate_of(self.options)).otherwise(pl.lit(KEPT, FATE))
        texts = texts.with_columns(fate=pl.when(is_negative).then(fate))
        negatives = texts.filter(is_negative)
        self.fates.update(dict(negatives.group_by("fate").len().iter_rows()))
        others = negatives.filter(pl.col("fate") != KEPT)
        self.rows_changed += others["row"].n_unique()
        positives = texts.filter(~is_negative | (pl.col("fate") == MOVED))
        kept = negatives.filter(pl.col("fate") == KEPT)
        rows = self._with_side(rows, "pos", positives)
        rows = self._with_side(rows, "neg", kept)
        return RelabelledUnit(
            rows=_with_account(rows, others),
            positive_scores=positives["score"].to_numpy(),
            negative_scores=kept["score"].to_numpy(),
        )

    def _check_scores(self, rows: pa.RecordBatch) -> None:
        """Raise InputError for negatives without scores of the positives' kind, if they decide."""
        if self.kind != OF_THE_INPUT:
            return
        lists = schema.column(rows, "neg_scores", SCORES)
        kinds = (schema.column(rows, f"{side}_score_kind", pa.string()) for side in ("pos", "neg"))
        is_other_kind = pc.not_equal(*(pc.fill_null(kind, "") for kind in kinds))
        has_negatives = pc.fill_null(pc.greater(pc.list_value_length(rows["neg"]), 0), False)
        lacks = pc.and_(has_negatives, pc.or_(lists.is_null(), is_other_kind))
        if lacks.true_count:
            row = rows.filter(lacks)["id"][0].as_py()
            raise InputError(
                f"row {row!r} has no `neg_scores` of the kind of its `pos_scores`, which "
                "--relabel --use-scores needs",
                "score both sides: hnmine --reranker CE --score-all, or synthgen --job judge",
            )

    def _may_change(self, rows: pa.RecordBatch) -> Mask:
        """Which rows have no scores that would have to stay, (n,)."""
        if self.kind == OF_THE_INPUT or self.options.replace_scores:
            return np.ones(len(rows), np.bool_)
        both = (may_write_scores(rows, side, self.kind) for side in ("pos", "neg"))
        return np.asarray(pc.and_(*both))

    def _with_side(self, rows: pa.RecordBatch, side: Side, texts: pl.DataFrame) -> pa.RecordBatch:
        """The rows with these texts on one side; row by row, in this order."""
        lengths = np.bincount(texts["row"].to_numpy(), minlength=len(rows))
        ids = [identity or content_id(text) for identity, text in texts["id", "text"].iter_rows()]
        columns = {side: texts["text"].to_arrow(), f"{side}_ids": pa.array(ids, pa.string())}
        if self.kind == OF_THE_INPUT:
            columns[f"{side}_scores"] = texts["score"].to_arrow()
        for name, items in columns.items():
            index = rows.schema.get_field_index(name)
            if index >= 0:
                field = rows.schema.field(index)
                lists = _lists(items.cast(field.type.value_type), lengths, rows[name])
                rows = rows.set_column(index, field, lists)
        if self.kind == OF_THE_INPUT:
            return rows
        index = rows.schema.get_field_index(f"{side}_scores")
        if index >= 0:  # protected ones stay, as they are those of rows that did not change
            is_protected = pa.array(~self._may_change(rows))
            old = rows.column(index)
            kept = pc.if_else(is_protected, old, pa.nulls(len(rows), old.type))
            rows = rows.set_column(index, rows.schema.field(index), kept)
        return rows

    def report_fates(self, report: Report) -> None:
        """Count the negatives by what became of them, and tell the user."""
        counts = {fate: self.fates[fate] for fate in FATE.categories if self.fates[fate]}
        report.measures["relabel"] = {**counts, "rows changed": self.rows_changed}
        shown = ", ".join(f"{count:,} {fate}" for fate, count in counts.items()) or "none"
        report.note(f"negatives: {shown}; rows changed: {self.rows_changed:,}")


def _texts(rows: pa.RecordBatch, side: Side) -> pl.DataFrame:
    """The texts of one side: row, side, text, key, id, old_score."""
    lists = rows[side]
    owners = list_owners(lists)
    items = lists.flatten()
    ids = _aligned(schema.column(rows, f"{side}_ids", TEXTS), owners)
    old_scores = _aligned(schema.column(rows, f"{side}_scores", SCORES), owners)
    return pl.DataFrame(
        {
            "row": pl.Series(owners, dtype=pl.Int64),
            "text": pl.Series(items, dtype=pl.String),
            "key": pl.Series(text_keys.hash_texts(items), dtype=pl.UInt64),
            "id": pl.Series(ids, dtype=pl.String),
            "old_score": pl.Series(old_scores, dtype=pl.Float32),
        }
    ).with_columns(side=pl.lit(side))


def _aligned(lists: pa.ListArray, owners: Numbers) -> pa.Array:
    """The items of lists, null for each text of a row whose list is null."""
    is_present = np.asarray(lists.is_valid())[owners]
    positions = pa.array(np.cumsum(is_present) - 1, pa.int64(), mask=~is_present)
    return lists.flatten().take(positions)


def _joined(rows: pa.RecordBatch, texts: pl.DataFrame) -> pa.RecordBatch:
    """The rows with the texts of both sides as `pos`, for a scorer."""
    lengths = np.bincount(texts["row"].to_numpy(), minlength=len(rows))
    offsets = pa.array(offsets_of(lengths), pa.int32())
    others = [name for name in rows.schema.names if name not in ("pos", "pos_scores")]
    arrays = {name: rows[name] for name in others}
    arrays["pos"] = pa.ListArray.from_arrays(offsets, texts["text"].to_arrow().cast(pa.string()))
    old_scores = texts["old_score"].to_arrow()
    if not old_scores.null_count:
        arrays["pos_scores"] = pa.ListArray.from_arrays(offsets, old_scores)
    return pa.RecordBatch.from_pydict(arrays)


def _lists(items: pa.Array, lengths: Numbers, old: pa.ListArray) -> pa.ListArray:
    """Items cut into lists; null where the old list was and for rows without items."""
    is_present = np.asarray(old.is_valid())
    items = items.filter(pa.array(np.repeat(is_present, lengths)))
    offsets = pa.array(offsets_of(np.where(is_present, lengths, 0)), pa.int32())
    mask = old.is_null() if old.null_count else None
    return pa.ListArray.from_arrays(offsets, items, mask=mask)


def _with_account(rows: pa.RecordBatch, changed: pl.DataFrame) -> pa.RecordBatch:
    """The rows with the columns of the account, behind those of an earlier run."""
    lengths = np.bincount(changed["row"].to_numpy(), minlength=len(rows))
    offsets = pa.array(offsets_of(lengths), pa.int32())
    for field, name in zip(COLUMNS, CHANGED):
        items = changed[name].cast(pl.Float32 if name == "score" else pl.String).to_arrow()
        new = pl.Series(pa.ListArray.from_arrays(offsets, items.cast(field.type.value_type)))
        index = rows.schema.get_field_index(field.name)
        if index < 0:
            rows = rows.append_column(field, new.to_arrow().cast(field.type))
            continue
        old = pl.Series(rows.column(index)).fill_null([])
        rows = rows.set_column(index, field, old.list.concat(new).to_arrow().cast(field.type))
    return rows
