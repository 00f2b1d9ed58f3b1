"""Which scores of a row a tool may overwrite, so that both sides of a row measure the same.

Scores that are no cosines are protected: those of a reranker, label or judge, and those without a
kind, which are a teacher's in the formats that name no kind. A row with protected scores keeps
them on both sides, unless the user passes --replace-scores; and whoever writes scores of one kind
on one side clears those of another kind on the other. A loss that compares the two sides could
not tell otherwise that a cosine stands beside a logit.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema

Side = Literal["pos", "neg"]
OTHER_SIDE: dict[Side, Side] = {"pos": "neg", "neg": "pos"}
SCORES = pa.list_(pa.float32())


def have_scores(rows: pa.RecordBatch, side: Side) -> pa.BooleanArray:
    """Which rows have a score on this side, (n,)."""
    lists = schema.column(rows, f"{side}_scores", SCORES)
    return pc.fill_null(pc.greater(pc.list_value_length(lists), 0), False)


def have_scores_of_another_kind(rows: pa.RecordBatch, side: Side, kind: str) -> pa.BooleanArray:
    """Which rows have scores of another kind, or of none, on this side, (n,)."""
    kinds = schema.column(rows, f"{side}_score_kind", pa.string())
    is_same = pc.fill_null(pc.equal(kinds, kind), False)
    return pc.and_(have_scores(rows, side), pc.invert(is_same))


def have_protected_scores(rows: pa.RecordBatch, side: Side) -> pa.BooleanArray:
    """Which rows have scores on this side that are no cosines, (n,)."""
    return have_scores_of_another_kind(rows, side, "cosine")


def may_write_scores(rows: pa.RecordBatch, side: Side, kind: str) -> pa.BooleanArray:
    """Which rows may get scores of this kind on this side without --replace-scores, (n,).

    Not those with protected scores on this side, nor those with protected scores of another kind
    on the other, beside which these would mean nothing.
    """
    other = OTHER_SIDE[side]
    is_mixed = pc.and_(
        have_protected_scores(rows, other),
        have_scores_of_another_kind(rows, other, kind),
    )
    return pc.invert(pc.or_(have_protected_scores(rows, side), is_mixed))
