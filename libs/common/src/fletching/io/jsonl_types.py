"""Which Arrow types the columns of JSON rows have, from all rows and not the first ones alone."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from pyarrow.types import (
    is_fixed_size_list,
    is_floating,
    is_integer,
    is_list,
    is_null,
    is_string,
)

from fletching.io.json_text import MOST_COLUMNS, TOO_MANY_COLUMNS, JsonValue, LimitError
from fletching.schema import Schema

JsonRow = dict[str, JsonValue]

# What pyarrow raises for a value that does not fit a type.
MISFITS = (pa.ArrowException, TypeError, ValueError, OverflowError)


class ColumnTypes:
    """The type of each column, as far as the rows seen so far tell.

    Known columns have the type that the schema gives them; of others the values decide. Types
    widen: null to anything, whole numbers to fractions, a struct by further keys. What does not
    widen keeps its first type, and the row that does not fit is refused when it is converted.
    """

    def __init__(self, known: Schema) -> None:
        self.fields = {name: field for field in reversed(known.fields) for name in field.names}
        self.known = known
        self.types: dict[str, pa.DataType] = {}

    def add(self, rows: Iterable[JsonRow]) -> None:
        """Take a block of rows into account."""
        values: dict[str, list[JsonValue]] = {}
        for row in rows:
            for name, value in row.items():
                column = values.setdefault(name, [])
                if value is not None:
                    column.append(value)
        if len(values) > MOST_COLUMNS or len(self.types) > MOST_COLUMNS:
            raise LimitError(TOO_MANY_COLUMNS)
        for name, column in values.items():
            kind = self._type(name, column)
            earlier = self.types.get(name, pa.null())
            self.types[name] = _widened(earlier, kind, is_known=name in self.fields)

    def schema(self) -> pa.Schema:
        """The columns in the order of their first appearance."""
        if not self.types:  # an empty file has the columns that its schema requires
            required = [field for field in self.known.fields if field.required]
            return pa.schema([(field.name, field.arrow or pa.null()) for field in required])
        return pa.schema([(name, self._final(name, kind)) for name, kind in self.types.items()])

    def _final(self, name: str, kind: pa.DataType) -> pa.DataType:
        """The type of a column whose values are all known; the schema's where it has none."""
        field = self.fields.get(name)
        return field.arrow if is_null(kind) and field and field.arrow else kind

    def _type(self, name: str, values: list[JsonValue]) -> pa.DataType:
        field = self.fields.get(name)
        if not values:
            return pa.null()
        if field is None or field.arrow is None:
            return _guess(values, is_vector=field is not None)
        is_listed = any(isinstance(value, list) for value in values)
        if not is_listed and is_list(field.arrow):
            return field.arrow.value_type  # one positive instead of a list
        return field.arrow


def _guess(values: list[JsonValue], *, is_vector: bool = False) -> pa.DataType:
    """The type that holds all the values, or those before the first that does not fit.

    is_vector: lists are vectors, whose dimension the first one decides.
    """
    try:
        kind = pa.array(values).type
    except OverflowError:
        return _type_of_wide_integers(values)
    except (pa.ArrowException, UnicodeEncodeError):
        return _type_of_first(values)
    if is_vector and is_list(kind):
        return pa.list_(pa.float32(), len(values[0]))
    return kind


def _type_of_first(values: list[JsonValue]) -> pa.DataType:
    """The type of the values up to the first that it cannot hold, which is refused later."""
    kind = pa.null()
    for value in values:
        widened = _widened(kind, _type_alone(value), is_known=False)
        try:
            exact_array([value], widened)
        except MISFITS:
            return kind
        kind = widened
    return kind


def _type_alone(value: JsonValue) -> pa.DataType:
    """The type of one value; string where pyarrow has none for it."""
    try:
        return pa.array([value]).type
    except MISFITS:
        return pa.string()


def _type_of_wide_integers(values: list[JsonValue]) -> pa.DataType:
    """uint64, alone or in lists; string where that does not hold them either."""
    for kind in (pa.uint64(), pa.list_(pa.uint64())):
        try:
            pa.array(values, kind)
            return kind
        except MISFITS:
            continue
    return pa.string()


def _widened(old: pa.DataType, new: pa.DataType, *, is_known: bool) -> pa.DataType:
    """The type that holds the values of both; the old one where there is none.

    is_known: of a column of the schema, a single text is a list of one.
    """
    if old == new or is_null(new):
        return old
    if is_null(old):
        return new
    if is_integer(old) and is_integer(new):
        return pa.uint64()  # the other is int64; where that was negative, the row is refused
    if is_known and is_list(old) and old.value_type == new:
        return old
    if is_known and is_list(new) and new.value_type == old:
        return new
    fields = [pa.schema([("column", kind)]) for kind in (old, new)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return old


# --- values into arrays --------------------------------------------------------------------------


def exact_array(values: list[JsonValue], kind: pa.DataType) -> pa.Array:
    """The values as an array; raises one of MISFITS where it would change one.

    pyarrow alone cuts 1.5 to 1 in a column of whole numbers, takes true for 1.0, forgets keys that
    a struct lacks and takes a string for a list of characters.
    """
    array = pa.array(values, kind)
    has_items = is_list(kind) or is_fixed_size_list(kind)
    leaf = kind.value_type if has_items else kind
    if is_floating(leaf) and _hold_flags(values):
        raise ValueError("true and false are no numbers")
    is_safe = is_string(leaf) or is_floating(leaf)
    if not is_safe and not _is_kept(values, array.to_pylist()):
        raise ValueError("a value would change")
    return array


def _hold_flags(values: list[JsonValue]) -> bool:
    """Is true or false among the values or their items?"""
    kinds = set(map(type, values))
    if list in kinds:
        kinds.update(*(map(type, value) for value in values if isinstance(value, list)))
    return bool in kinds


def as_texts(values: list[JsonValue]) -> list[JsonValue]:
    """Ids with their whole numbers as text, lists included."""
    return [as_texts(value) if isinstance(value, list) else _as_text(value) for value in values]


def _as_text(value: JsonValue) -> JsonValue:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def _is_kept(original: object, stored: object) -> bool:
    """Is the stored value the original one, NaN included?"""
    if isinstance(original, dict):
        return isinstance(stored, dict) and all(
            _is_kept(value, stored.get(name)) for name, value in original.items()
        )
    if isinstance(original, list):
        if not isinstance(stored, list) or len(original) != len(stored):
            return False
        return all(map(_is_kept, original, stored))
    is_nan = original != original
    return original == stored or is_nan
