"""Names and nesting of columns: what every format must be able to hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fletching.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

DEEPEST = 40  # lists and objects inside one another; Parquet holds 48, Arrow streams 64


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name, in the order of names, that stands more than once."""
    counts = Counter(names)
    return next((name for name, count in counts.items() if count > 1), None)


def check(columns: pa.Schema, where: str) -> None:
    """Raise InputError for a name that is not UTF-8 and for values nested too deep.

    Foreign programs can write both; pyarrow fails on them only when they are looked at.
    """
    try:
        level = list(zip(columns.names, columns.types))
        for _ in range(DEEPEST):
            level = [(column, part.type) for column, kind in level for part in _parts(kind)]
        too_deep_columns = [column for column, kind in level if kind.num_fields]
    except UnicodeDecodeError as error:
        raise not_utf8(error, where) from None
    if too_deep_columns:
        raise too_deep(f"{where}: column `{too_deep_columns[0]}`")


def not_utf8(error: UnicodeDecodeError, where: str) -> InputError:
    """The error for the name of a column that pyarrow cannot decode."""
    shown = error.object.decode(errors="backslashreplace")
    return InputError(f"{where}: the column name `{shown}` is not UTF-8", "rename the column")


def too_deep(what: str) -> InputError:
    """The error for a value with more lists and objects inside one another than are read."""
    fix = "flatten it, or make it a text"
    return InputError(f"{what} is nested more than {DEEPEST} levels deep", fix)


def _parts(kind: pa.DataType) -> list[pa.Field]:
    """What a list, an object or a map consists of. Raises UnicodeDecodeError for its names."""
    parts = [kind.field(number) for number in range(kind.num_fields)]
    for part in parts:
        part.name  # noqa: B018 (decodes it)
    return parts
