"""64-bit keys of texts, ids and categories, as polars expressions."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import polars as pl
import pyarrow as pa

from fletching import text_keys
from fletching.table import KeySet

ABSENT = pl.lit(0, pl.UInt64)  # the key of a null or blank text


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


def mixed(*parts: str | int) -> pl.Expr:
    """`text_keys.mix` of columns without nulls (by name) and numbers: UInt64."""
    columns = [pl.col(part) for part in parts if isinstance(part, str)]

    def mix_columns(series: Sequence[pl.Series]) -> pl.Series:
        """The columns in their order among the numbers."""
        arrays = iter(series)
        values = [next(arrays).to_numpy() if isinstance(part, str) else part for part in parts]
        return pl.Series(text_keys.mix(*values))

    return pl.map_batches(columns, mix_columns, return_dtype=pl.UInt64)


def hashed(name: str, *, repeated: bool = False) -> pl.Expr:
    """`text_keys.hash_texts` of a column; repeated: for one of few distinct texts."""
    return pl.col(name).map_batches(
        _hash_repeated if repeated else _hash_texts, return_dtype=pl.UInt64
    )


def moved(name: str, space: int) -> pl.Expr:
    """Keys as keys of another space; ABSENT stays."""
    return pl.when(pl.col(name) != ABSENT).then(mixed(space, name)).otherwise(ABSENT)


def matching(keys: pl.Expr, members: KeySet) -> pl.Expr:
    """Which keys belong to a set."""
    return keys.map_batches(
        lambda series: pl.Series(members.contains(series.to_numpy())), return_dtype=pl.Boolean
    )


def left_join(rows: pl.DataFrame, others: pl.DataFrame, on: str) -> pl.DataFrame:
    """All rows in their order, with the columns of the others that have the same `on`, or nulls."""
    return rows.join(others, on=on, how="left", maintain_order="left")


def arrow_texts(texts: pl.Series) -> pa.StringArray:
    """A column of texts in Arrow's 32-bit layout."""
    return texts.rechunk().to_arrow().cast(pa.string())


def _hash_texts(texts: pl.Series) -> pl.Series:
    return pl.Series(text_keys.hash_texts(arrow_texts(texts)))


def _hash_repeated(texts: pl.Series) -> pl.Series:
    return pl.Series(text_keys.hash_repeated_texts(arrow_texts(texts)))
