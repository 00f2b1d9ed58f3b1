"""Cells of any Arrow type as text."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InputError
from fletching.schema import canonical, cast


def count_lists(cells: pa.Array) -> int:
    """How many cells are lists of several items."""
    if not pa.types.is_list(canonical(cells.type)):
        return 0
    several = pc.sum(pc.greater(pc.list_value_length(cells), 1)).as_py()
    return int(several or 0)


def cells_as_text(cells: pa.Array, name: str, where: str) -> pa.StringArray:
    """Lists joined by one blank, numbers as Arrow prints them.

    name, where: of column and file, for the InputError where a type cannot be read as text.
    """
    kind = canonical(cells.type)
    try:
        plain = cast(cells, kind)
        if pa.types.is_list(kind):
            return pc.binary_join(cast(plain, pa.list_(pa.string())), " ")
        return cast(plain, pa.string())
    except (pa.ArrowException, NotImplementedError):
        raise InputError(
            f"{where}: column `{name}` is {cells.type} and cannot be read as text",
            "name another column",
        ) from None
