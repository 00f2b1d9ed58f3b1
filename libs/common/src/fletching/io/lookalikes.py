"""Columns that look like known ones and are not read: a reader says so, a trainer refuses some.

`positive_2` beside `pos`, `teacher_score` beside a positive: whoever named it so meant something by
it, and rows without it may say something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow.types import is_floating, is_integer, is_string

from fletching.arrow_types import canonical, is_any_list
from fletching.errors import InputError
from fletching.schema import Schema

RATING = re.compile(r"(?i)(.*[_ -])?(scores?|labels?|ratings?|relevances?|grades?)([_ -].*)?\d*")
POSITIVE = re.compile(
    r"(?i)pos[_ -]?\d+|positives?([_ -].*)?\d*|pos_(texts?|passages?|doc.*|ctxs?)"
)
# Of simfilter --relabel: scores of texts that were moved or dropped, not of positives.
OF_OUR_TOOLS = ("relabelled_scores",)
NEGATIVE = re.compile(r"(?i)(hard[_ -]?)?neg(atives?)?([_ -].*)?\d*")


@dataclass(frozen=True)
class Lookalike:
    """A column that is not read.

    changes_positives: would reading it change which texts are positives? Ratings do that, where
    the positives have no others, and further positives.
    """

    name: str
    changes_positives: bool


def unread_lookalikes(schema: Schema, columns: pa.Schema) -> list[Lookalike]:
    """Of the columns that pass through: those that look like columns of `examples`."""
    if schema.name != "examples":
        return []
    known = {*OF_OUR_TOOLS, *(field.name for field in schema.fields)}
    unknown = [field for field in columns if field.name not in known]
    is_rated = "pos_scores" in columns.names
    lookalikes = (_lookalike(field, is_rated=is_rated) for field in unknown)
    return [lookalike for lookalike in lookalikes if lookalike is not None]


def _lookalike(field: pa.Field, *, is_rated: bool) -> Lookalike | None:
    kind = canonical(field.type)
    item = kind.value_type if is_any_list(kind) else kind
    is_text = bool(is_string(item))
    is_numeric = bool(is_integer(item) or is_floating(item))
    if POSITIVE.fullmatch(field.name):
        return Lookalike(field.name, is_text or (is_numeric and not is_rated))
    if NEGATIVE.fullmatch(field.name):
        return Lookalike(field.name, False)
    if RATING.fullmatch(field.name):
        return Lookalike(field.name, is_numeric and not is_rated)
    return None


def refuse(where: str, lookalikes: Sequence[Lookalike]) -> None:
    """Raise InputError for a column without which a positive may be none."""
    for lookalike in lookalikes:
        if lookalike.changes_positives:
            what = f"{where}: column `{lookalike.name}` may say which texts are positives, unread"
            fix = (
                "name it `pos_scores` (one number for each positive) or add its texts to `pos`; "
                "or drop the column"
            )
            raise InputError(what, fix)
