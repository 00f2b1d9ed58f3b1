"""What detection asks of columns: names and types, in any Arrow encoding."""

from __future__ import annotations

import re

import pyarrow as pa
from pyarrow.types import is_boolean, is_floating, is_integer, is_null, is_string, is_struct

from fletching import schema as contract
from fletching.arrow_types import canonical, is_any_list

SCORE_NAMES = ("label", "labels", "score", "scores")


def first_of(columns: pa.Schema, names: tuple[str, ...]) -> str:
    """The first of these names that is a column; "" where none is."""
    return next((name for name in names if name in columns.names), "")


def names_of(field: str) -> tuple[str, ...]:
    """The names under which a field of `examples` is read."""
    known = contract.load("examples").field(field)
    return known.names if known else ()


def query_column(columns: pa.Schema) -> str:
    """The column of the query; "" where there is none."""
    return first_of(columns, names_of("query"))


def positive_column(columns: pa.Schema) -> str:
    """The column of the positives; "" where there is none."""
    return first_of(columns, names_of("pos"))


def negative_column(columns: pa.Schema) -> str:
    """The column of the negatives; "" where there is none."""
    return first_of(columns, names_of("neg"))


def numbered_columns(columns: pa.Schema, stems: tuple[str, ...]) -> list[str]:
    """`negative_1`, `negative_2`, … in the order of their numbers."""
    pattern = re.compile(rf"(?:{'|'.join(stems)})_?(\d+)")
    matches = [(match, name) for name in columns.names if (match := pattern.fullmatch(name))]
    return [name for _, name in sorted((int(match[1]), name) for match, name in matches)]


def is_text(columns: pa.Schema, name: str) -> bool:
    """Does the column hold one text a row, or nulls alone?"""
    kind = _type(columns, name)
    return bool(is_string(kind) or is_null(kind))


def is_text_list(columns: pa.Schema, name: str) -> bool:
    """Does the column hold a list of texts a row?"""
    kind = _type(columns, name)
    return is_any_list(kind) and bool(is_string(kind.value_type) or is_null(kind.value_type))


def is_number(columns: pa.Schema, name: str) -> bool:
    """Does the column hold one number a row?"""
    return _is_numeric(_type(columns, name))


def is_number_list(columns: pa.Schema, name: str) -> bool:
    """Does the column hold a list of numbers a row?"""
    kind = _type(columns, name)
    return is_any_list(kind) and _is_numeric(kind.value_type)


def is_whole_number_list(columns: pa.Schema, name: str) -> bool:
    """Does the column hold a list of whole numbers a row, or of yes and no?"""
    kind = _type(columns, name)
    return is_any_list(kind) and bool(is_integer(kind.value_type) or is_boolean(kind.value_type))


def is_record_list(columns: pa.Schema, name: str, key: str) -> bool:
    """Does the column hold a list of objects with this key a row?"""
    kind = _type(columns, name)
    if not is_any_list(kind) or not is_struct(kind.value_type):
        return False
    return any(field.name == key for field in kind.value_type)


def _type(columns: pa.Schema, name: str) -> pa.DataType:
    index = columns.get_field_index(name) if name else -1
    return canonical(columns.field(index).type) if index >= 0 else pa.bool_()


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(is_integer(kind) or is_floating(kind))
