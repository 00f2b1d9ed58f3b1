"""The columns of an input as rows of a schema: renamed, in canonical types, filled and checked.

A `ColumnMapping` is made once from the columns of an input and then applied to each batch. It
finds the columns (also under the names that the field uses for them), brings every type to its
canonical form, fills what may be filled and checks every promise of the schema. Unknown columns
pass through.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.types import (
    is_fixed_size_list,
    is_float16,
    is_float32,
    is_floating,
    is_integer,
    is_list,
    is_null,
    is_string,
)

from fletching.arrow_types import canonical, cast, is_any_list
from fletching.column_names import first_repeated
from fletching.errors import InputError
from fletching.schema import Field, Schema, column
from fletching.text import content_id

MAX_NAMES_SHOWN = 12
MAX_VALUE_SHOWN = 80  # characters


class ColumnMapping:
    """How batches with these columns become rows of this schema.

    sources: the input's column for each of ours; None where ours is filled. columns: the Arrow
    schema of the rows. input_columns: those of the input. where: its name, for errors.
    Raises InputError for a column that is missing, of a wrong type or there twice.
    """

    def __init__(self, schema: Schema, arrow: pa.Schema, where: str) -> None:
        self.schema, self.where = schema, where
        self.input_columns = arrow
        self._check_distinct(arrow)
        self.sources: dict[str, str | None] = {}
        present = set(arrow.names)
        for field in schema.fields:
            source = next((name for name in field.names if name in present), None)
            if source is not None:
                self._check_type(field, arrow.field(source))
                self.sources[field.name] = source
            elif field.required:
                raise self._missing(field, arrow)
            elif field.filled:
                self.sources[field.name] = None
        self.columns = pa.schema([*self._known_columns(arrow), *self._unknown_columns(arrow)])

    def of_input(self, where: str) -> ColumnMapping:
        """The mapping of another input with these columns."""
        mapping = copy.copy(self)
        mapping.where = where
        return mapping

    @property
    def renamed(self) -> dict[str, str]:
        """The input's column for each of ours that has another name there."""
        return {
            ours: theirs
            for ours, theirs in self.sources.items()
            if theirs is not None and theirs != ours
        }

    def apply(self, batch: pa.RecordBatch, columns: pa.Schema, first_row: int) -> pa.RecordBatch:
        """`batch` in canonical types, with `columns` (a superset of ours), filled and checked.

        first_row: the number of the batch's first row in the file, from 1, for errors.
        Raises InputError for a row that breaks a promise of the schema.
        """
        filled = self.convert(batch, columns)
        check(self.schema, filled, self.where, first_row=first_row)
        return filled

    def convert(self, batch: pa.RecordBatch, columns: pa.Schema) -> pa.RecordBatch:
        """`apply` without the check of the schema's promises: for tools that look at rows."""
        arrays = []
        for field in columns:
            source = self.sources.get(field.name, field.name)
            index = -1 if source is None else batch.schema.get_field_index(source)
            if index < 0:
                arrays.append(pa.nulls(batch.num_rows, field.type))
            else:
                arrays.append(self._cast(batch.column(index), field))
        return fill_ids(self.schema, pa.RecordBatch.from_arrays(arrays, schema=columns))

    def _cast(self, column: pa.Array, field: pa.Field) -> pa.Array:
        """The column in our type. Raises InputError for a value that does not fit."""
        try:
            return cast(column, field.type)
        except pa.ArrowInvalid as error:
            what = (
                f"{self.where}: a value of `{field.name}` does not fit into {field.type}: {error}"
            )
            raise InputError(what, "correct the value, or drop its row") from None

    def _known_columns(self, arrow: pa.Schema) -> Iterator[pa.Field]:
        for field in self.schema.fields:
            if field.name not in self.sources:
                continue
            kind = field.arrow
            if kind is None:  # a vector keeps its dimension and width
                kind = canonical(arrow.field(self.sources[field.name] or field.name).type)
            yield pa.field(field.name, kind, field.nullable)

    def _unknown_columns(self, arrow: pa.Schema) -> Iterator[pa.Field]:
        used = set(self.sources.values())
        for field in arrow:
            if field.name not in used:
                yield pa.field(field.name, canonical(field.type))

    def _check_distinct(self, arrow: pa.Schema) -> None:
        repeated = first_repeated(arrow.names)
        if repeated is not None:
            what = f"{self.where}: column `{repeated}` appears twice"
            raise InputError(what, "rename or drop one of them")

    def _check_type(self, field: Field, source: pa.Field) -> None:
        if not _can_be_read_as(field, canonical(source.type)):
            needs = f"{self.schema.name} needs {field.type}"
            what = f"{self.where}: column `{source.name}` is {source.type}, but {needs}"
            raise InputError(what, "cast the column, or name another one")

    def _missing(self, field: Field, arrow: pa.Schema) -> InputError:
        needs = f"which {self.schema.name} needs"
        what = f"{self.where} has no column `{field.name}`, {needs}; it has {_list_names(arrow)}"
        fix = "rename the column"
        if self.schema.name in ("examples", "texts"):
            fix += f", or make {self.schema.name} with csv2pairs"
        return InputError(what, fix)


def _list_names(arrow: pa.Schema) -> str:
    shown = ", ".join(f"`{name}`" for name in arrow.names[:MAX_NAMES_SHOWN]) or "no columns"
    hidden = len(arrow.names) - MAX_NAMES_SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _can_be_read_as(field: Field, kind: pa.DataType) -> bool:
    """Can a column of this canonical type hold the field?"""
    if is_null(kind):
        return field.nullable or bool(field.filled)
    if field.type.startswith("fixed_size_list"):
        return is_fixed_size_list(kind) and _is_single_or_half(kind.value_type)
    if field.type.startswith("list") and is_any_list(kind):
        kind = kind.value_type
    if is_null(kind):
        return True
    if "string" in field.type:
        return is_string(kind) or (field.is_id and is_integer(kind))
    return is_integer(kind) or (is_floating(kind) and "float" in field.type)


def _is_single_or_half(kind: pa.DataType) -> bool:
    return bool(is_float32(kind) or is_float16(kind))


def fill_ids(schema: Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Ids, where a row has none, made from its content: equal rows get equal ids."""
    index = batch.schema.get_field_index("id")
    field = schema.field("id")
    if index < 0 or not field or not field.filled or not batch.column(index).null_count:
        return batch
    present = batch.column(index).to_pylist()
    computed = content_ids(schema, batch)
    ids = [new if old is None else old for old, new in zip(present, computed)]
    return batch.set_column(index, batch.schema.field(index), pa.array(ids, pa.string()))


def content_ids(schema: Schema, batch: pa.RecordBatch) -> list[str]:
    """The id of each row that has none: a hash of its required columns."""
    required = [batch.column(f.name).to_pylist() for f in schema.fields if f.required]
    return [
        content_id(*(text for value in row for text in _texts(value))) for row in zip(*required)
    ]


def _texts(value: str | list[str | None] | None) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item or "" for item in items]


# --- the promises of a schema --------------------------------------------------------------------


class Violation(NamedTuple):
    """A promise of a field, and the rows that break it."""

    rows: pa.BooleanArray
    what: str
    fix: str


def check(schema: Schema, batch: pa.RecordBatch, where: str, *, first_row: int = 1) -> None:
    """Raise InputError for the first row that breaks a promise. Cost: a few passes over lengths."""
    for field, violation in violations(schema, batch):
        row = pc.index(violation.rows, True).as_py()
        value = shown_value(batch[field.name][row].as_py())
        location = f"{where}, row {first_row + row:,}"
        what = f"{location}: `{field.name}` {violation.what} ({value})"
        raise InputError(what, violation.fix)


def violations(schema: Schema, batch: pa.RecordBatch) -> Iterator[tuple[Field, Violation]]:
    """The promises that rows of this batch break, each with its field, in the schema's order."""
    for field in schema.fields:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            continue
        for violation in _violations(field, batch.column(index), batch):
            if pc.any(violation.rows).as_py():
                yield field, violation


def shown_value(value: object) -> str:
    """A value as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= MAX_VALUE_SHOWN:
        return text
    return text[: MAX_VALUE_SHOWN - 3] + "..."


def _violations(field: Field, array: pa.Array, batch: pa.RecordBatch) -> Iterator[Violation]:
    if not field.nullable:
        fix = "fill it or drop the row before this tool"
        yield Violation(array.is_null(), "is null", fix)
    if is_list(array.type) or is_fixed_size_list(array.type):
        yield from _violations_in_items(field, array)
    elif field.finite:
        infinite = pc.invert(pc.is_finite(array))
        yield Violation(infinite, "is not finite", "drop the row")
    if field.min_items:
        too_few = pc.less(pc.list_value_length(array), field.min_items)
        fix = f"give at least {field.min_items} item, or drop the row"
        yield Violation(too_few, "is empty", fix)
    if field.aligned_with:
        yield _misaligned(field, array, column(batch, field.aligned_with, array.type))
    if field.values:
        allowed = pa.array([*field.values, None], pa.string())
        unknown = pc.invert(pc.is_in(array, allowed))
        what = "is none of " + ", ".join(field.values)
        yield Violation(unknown, what, "use one of these")
    if field.pattern:
        matches = pc.match_substring_regex(array, f"^(?:{field.pattern})$")
        what = f"is not of the form {field.pattern}"
        yield Violation(pc.invert(matches), what, "make the value again")


def _violations_in_items(field: Field, lists: pa.Array) -> Iterator[Violation]:
    items = lists.flatten()
    if items.null_count:
        rows = _rows_holding(lists, items.is_null())
        yield Violation(rows, "holds a null", "drop the nulls from the list")
    if field.finite:
        if is_float16(items.type):
            items = items.cast(pa.float32())
        rows = _rows_holding(lists, pc.invert(pc.is_finite(items)))
        what = "holds a number that is not finite"
        yield Violation(rows, what, "drop or score the row again")


def _misaligned(field: Field, lists: pa.Array, partner: pa.Array) -> Violation:
    # A null list has no length: its partner must be null too.
    lengths = pc.fill_null(pc.list_value_length(partner), -1)
    differ = pc.not_equal(pc.list_value_length(lists), lengths)
    what = f"has not as many items as `{field.aligned_with}`"
    return Violation(differ, what, "give one item for each, or null for none")


def _rows_holding(lists: pa.Array, marked_items: pa.Array) -> pa.BooleanArray:
    """Which lists hold a marked item: bool [lists]."""
    if not pc.any(marked_items).as_py():  # most lists are whole, and vectors have many items
        return pa.repeat(False, len(lists))
    owners = pc.list_parent_indices(lists).filter(pc.fill_null(marked_items, False))
    rows = pa.array(range(len(lists)), pa.int64())
    return pc.is_in(rows, owners.cast(pa.int64()))
