"""Cells of any Arrow type as text, as lists of texts, or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.types import is_list, is_struct

from fletching.errors import InputError
from fletching.io.tables.table_options import CellKind
from fletching.schema import canonical, cast

NULL = pa.scalar(None, pa.string())
TEXTS = pa.list_(pa.string())
ARROW_TYPES = {CellKind.TEXT: pa.string(), CellKind.LIST: TEXTS, CellKind.JSON: pa.string()}


class CellReader:
    """Columns of a file as the kind of cells that is asked for.

    null: texts that count as null. separators: by LIST column, what separates the texts of a cell.
    joined_lists: counts, by TEXT column, the lists of several items that became one text.
    """

    def __init__(
        self, null: Sequence[str], separators: Mapping[str, str], joined_lists: Counter[str]
    ) -> None:
        self.null = pa.array(null, pa.string())
        self.separators = separators
        self.joined_lists = joined_lists

    def read(self, cells: pa.Array, kind: CellKind, *, name: str, where: str) -> pa.Array:
        """The cells as `ARROW_TYPES[kind]`.

        name, where: of column and file, for the InputError where a type cannot be read as text.
        """
        is_nested = is_list(canonical(cells.type))
        if kind is CellKind.LIST:
            return self._lists(cells, name, where)
        if kind is CellKind.JSON and (is_nested or is_struct(canonical(cells.type))):
            return cells_as_json(cells)
        if is_nested:
            self.joined_lists[name] += count_lists(cells)
        return self._without_null_texts(cells_as_text(cells, name, where))

    def _lists(self, cells: pa.Array, name: str, where: str) -> pa.ListArray:
        if is_list(canonical(cells.type)):
            try:
                return cast(cast(cells, canonical(cells.type)), TEXTS)
            except (pa.ArrowException, NotImplementedError):
                raise unreadable(cells, name, where) from None
        texts = self._without_null_texts(cells_as_text(cells, name, where))
        separator = self.separators.get(name)
        if separator is None:
            offsets = pa.array(np.arange(len(texts) + 1, dtype=np.int32))
            return pa.ListArray.from_arrays(offsets, texts)
        parts = pc.split_pattern(texts, separator)
        items = pc.utf8_trim_whitespace(parts.flatten())
        return pa.ListArray.from_arrays(parts.offsets, items, mask=parts.is_null())

    def _without_null_texts(self, texts: pa.StringArray) -> pa.StringArray:
        if not len(self.null):
            return texts
        return pc.if_else(pc.is_in(texts, self.null), NULL, texts)


def count_lists(cells: pa.Array) -> int:
    """How many cells are lists of several items."""
    several = pc.sum(pc.greater(pc.list_value_length(cells), 1)).as_py()
    return int(several or 0)


def cells_as_text(cells: pa.Array, name: str, where: str) -> pa.StringArray:
    """Lists joined by one blank, numbers as Arrow prints them.

    name, where: of column and file, for the InputError where a type cannot be read as text.
    """
    if cells.type == pa.string():
        return cells
    kind = canonical(cells.type)
    try:
        plain = cast(cells, kind)
        if is_list(kind):
            return pc.binary_join(cast(plain, TEXTS), " ")
        return cast(plain, pa.string())
    except (pa.ArrowException, NotImplementedError):
        raise unreadable(cells, name, where) from None


def cells_as_json(cells: pa.Array) -> pa.StringArray:
    """Each cell as compact JSON; null stays null. Dates and decimals are texts in it."""
    texts = (
        None if value is None else json.dumps(value, ensure_ascii=False, default=str)
        for value in cells.to_pylist()
    )
    return pa.array(texts, pa.string())


def unreadable(cells: pa.Array, name: str, where: str) -> InputError:
    """The error for a column that is no text."""
    return InputError(
        f"{where}: column `{name}` is {cells.type} and cannot be read as text",
        "name another column",
    )
