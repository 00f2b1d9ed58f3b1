"""64-bit keys of texts as polars expressions, ids made of content, and drops by named reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum

import numpy as np
import polars as pl
import pyarrow as pa
from polars import DataFrame, Expr, Series, col, concat_list, lit, when

from csv2pairs.table import is_filled
from fletching import text_keys
from fletching.report import Report
from fletching.table import KeySet
from fletching.table.key_set import Keys
from fletching.text import content_id

ROWS_SORTED = 1 << 23
ABSENT = lit(0, pl.UInt64)  # the key of a null or blank text
# polars imports numpy at the first array; where two threads do so at once, one of them fails.
NO_KEYS = Series(np.zeros(0, np.uint64))


class KeySpace(IntEnum):
    """What a key is the hash of, mixed into it, so that an id never equals a query.

    Seeds of draws and splits depend on these numbers: another number gives other rows.
    """

    GROUP_POSITIVES = 0x905  # draws of positives in --mode group, independent of the negatives
    SPLIT = 0x5B117  # the position of a component among the splits
    SPLIT_BY = 0x590  # the first column of --split-by; the next one is one higher
    ROW_TEXT = 0x7E  # the text of --texts-template
    CATEGORY = 0xCA
    ID = 0x1D


def mixed(*parts: Expr | str | int) -> Expr:
    """`text_keys.mix` of expressions or columns without nulls, and numbers: UInt64."""
    columns = [lit(part % 2**64, pl.UInt64) if isinstance(part, int) else part for part in parts]
    return pl.map_batches(
        columns,
        lambda series: Series(text_keys.mix(*(each.to_numpy() for each in series))),
        return_dtype=pl.UInt64,
    )


def hashed(name: str, method: Callable[[pa.StringArray], Keys] = text_keys.hash_texts) -> Expr:
    """The key of each text of a column, equal for texts that are equal after normalisation."""
    return col(name).map_batches(
        lambda texts: Series(method(arrow_texts(texts))), return_dtype=pl.UInt64
    )


def moved(keys: Expr, space: int) -> Expr:
    """Keys as keys of another space; ABSENT stays."""
    return when(keys != ABSENT).then(mixed(space, keys)).otherwise(ABSENT)


def matching(keys: Expr, members: KeySet) -> Expr:
    """Which keys belong to a set."""
    return keys.map_batches(
        lambda series: Series(members.contains(series.to_numpy())), return_dtype=pl.Boolean
    )


def ranges_of(name: str, rows: int) -> list[Expr]:
    """Conditions that cut so many rows into rising ranges of a key, to be sorted one by one."""
    count = rows // ROWS_SORTED + 1
    part = col(name) // 2**32 * count // 2**32
    return [part == number for number in range(count)]


def left_join(rows: DataFrame, others: DataFrame, on: str) -> DataFrame:
    """All rows in their order, with the columns of the others that have the same `on`, or nulls."""
    return rows.join(
        others,
        on=on,
        how="left",
        maintain_order="left",
    )


def arrow_texts(texts: Series) -> pa.StringArray:
    """A column of texts in Arrow's 32-bit layout."""
    return texts.rechunk().to_arrow().cast(pa.string())


def flat(column: Series) -> Series:
    """The texts of a column, those of its lists one by one."""
    return column.explode() if column.dtype.is_nested() else column


def with_ids(rows: DataFrame, *parts: str) -> DataFrame:
    """Rows whose `id` is null or blank get the `content_id` of these columns of texts or lists."""
    lacks_id = rows.select(~is_filled(col.id)).to_series()
    contents = rows.filter(lacks_id).select(concat_list(parts)).to_series().to_list()
    ids = Series([content_id(*texts) for texts in contents], dtype=pl.String)
    return rows.with_columns(id=rows["id"].scatter(lacks_id.arg_true(), ids))


def first_that_holds(reasons: Mapping[str, Expr]) -> Expr:
    """The name of the first condition that is true of a row, else null."""
    names = [when(holds).then(lit(name)) for name, holds in reasons.items()]
    return pl.coalesce(*names, lit(None, pl.String))


def drop_by_reason(rows: DataFrame, reasons: Mapping[str, Expr], report: Report) -> DataFrame:
    """The rows of which no reason holds; the others are counted by the first that does."""
    reason = rows.with_columns(reason=first_that_holds(reasons))["reason"]
    count_reasons(reason, report)
    return rows.filter(reason.is_null())


def count_reasons(reasons: Series, report: Report) -> None:
    """Count the rows that are dropped, by reason."""
    for reason, count in reasons.drop_nulls().value_counts().iter_rows():
        report.drop(reason, count)
