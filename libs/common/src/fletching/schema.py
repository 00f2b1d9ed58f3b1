"""The exchange contract of `schemas/`, loaded from its JSON files and enforced at the border.

`ColumnMapping` is made once from the columns of an input and then applied to each batch: it finds the columns
(also under the names that the field uses for them), brings every type to its canonical form (string,
list<string>, fixed_size_list; no dictionaries, views or large types), fills what may be filled and
checks every promise of the schema. Unknown columns pass through.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InputError
from fletching.text import content_id

NAMES = ("examples", "texts", "vectors", "tasks", "measures")


@dataclass(frozen=True)
class Field:
    """One column of a schema, as `schema.json` states it."""

    name: str
    type: str
    nullable: bool
    meaning: str
    required: bool = False  # must stand in every file; the others may be absent
    filled: str = ""  # how a reader fills the column when it is absent or null
    aliases: tuple[str, ...] = ()  # the field's other names for it, read where `name` is absent
    min_items: int = 0
    finite: bool = False
    aligned_with: str = ""
    values: tuple[str, ...] = ()
    pattern: str = ""  # a regular expression that the whole value matches

    @property
    def arrow(self) -> pa.DataType | None:
        """The canonical type; None for vectors, whose dimension and width the file decides."""
        return _ARROW.get(self.type)

    @property
    def is_id(self) -> bool:
        """Ids are often numbers in foreign files and are read as text; texts never are numbers."""
        return self.name == "id" or self.name.endswith("_ids")


_ARROW = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "list<string>": pa.list_(pa.string()),
    "list<float32>": pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class Schema:
    name: str
    version: str
    description: str
    fields: tuple[Field, ...]

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)

    def arrow(self, names: Iterable[str], passed_through: Iterable[pa.Field] = ()) -> pa.Schema:
        """The Arrow schema of these known columns, in our order, then the unknown ones in theirs."""
        wanted = set(names)
        known = [pa.field(f.name, f.arrow, f.nullable) for f in self.fields if f.name in wanted]
        return pa.schema([*known, *passed_through])


@functools.cache
def load(name: str) -> Schema:
    """The schema of this name, newest major version."""
    path = importlib.resources.files("fletching") / "schemas" / name / "v1" / "schema.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    fields = [_field(stated) for stated in content["fields"]]
    return Schema(content["name"], content["version"], content["description"], tuple(fields))


def _field(stated: dict[str, Any]) -> Field:
    frozen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()
    }
    return Field(**frozen)


def extend(schema: Schema, columns: pa.Schema, *names: str) -> pa.Schema:
    """`columns` with these known columns added where they are missing: the schema a tool writes."""
    unknown = [field for field in columns if schema.field(field.name) is None]
    present = [field.name for field in columns if schema.field(field.name)]
    return schema.arrow([*present, *names], unknown)


def column(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    """A column of a batch, or nulls where it has none."""
    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else pa.nulls(batch.num_rows, kind)


# --- canonical types -----------------------------------------------------------------------------


def canonical(kind: pa.DataType) -> pa.DataType:
    """The one type we write for all the encodings in which a value may arrive."""
    is_ = pa.types
    if is_.is_dictionary(kind) or is_.is_run_end_encoded(kind):
        return canonical(kind.value_type)
    if is_.is_large_string(kind) or is_.is_string_view(kind):
        return pa.string()
    if is_.is_large_binary(kind) or is_.is_binary_view(kind):
        return pa.binary()
    if is_.is_fixed_size_list(kind):
        return pa.list_(canonical(kind.value_type), kind.list_size)
    if (
        is_.is_list(kind)
        or is_.is_large_list(kind)
        or is_.is_list_view(kind)
        or is_.is_large_list_view(kind)
    ):
        return pa.list_(canonical(kind.value_type))
    if is_.is_struct(kind):
        return pa.struct([pa.field(f.name, canonical(f.type), f.nullable) for f in kind])
    if isinstance(kind, pa.BaseExtensionType):
        return canonical(kind.storage_type)
    return kind


def cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values in another encoding; a scalar becomes a list of one where `kind` is a list.

    Taken apart and put together here: pyarrow casts no dictionary of string_view, and makes a broken list
    of a list_view that holds a null.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        array = cast(array.dictionary, canonical(array.type.value_type)).take(array.indices)
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if array.type == kind:
        return array
    if pa.types.is_list(kind):
        listed = _is_list(array.type)
        items = cast(array.flatten() if listed else array, kind.value_type)
        lengths = (
            pc.if_else(array.is_valid(), pc.list_value_length(array), 0).to_numpy(
                zero_copy_only=False
            )
            if listed
            else np.ones(len(array), int)
        )
        offsets = pa.array(np.concatenate([[0], lengths.cumsum()]), pa.int32())
        nulls = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(offsets, items, type=kind, mask=nulls)
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        children = [cast(child, field.type) for child, field in zip(array.flatten(), kind)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    return array.cast(kind)


def _is_list(kind: pa.DataType) -> bool:
    is_ = pa.types
    view = is_.is_list_view(kind) or is_.is_large_list_view(kind)
    return is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind) or view


def _fits(kind: pa.DataType, field: Field) -> bool:
    """Can a column of this (canonical) type be read as this field?"""
    is_ = pa.types
    if is_.is_null(kind):
        return field.nullable or bool(field.filled)
    if field.type.startswith("fixed_size_list"):
        return is_.is_fixed_size_list(kind) and (
            is_.is_float32(kind.value_type) or is_.is_float16(kind.value_type)
        )
    if field.type.startswith("list"):
        kind = kind.value_type if _is_list(kind) else kind
    if "string" in field.type:
        return is_.is_string(kind) or is_.is_null(kind) or (field.is_id and is_.is_integer(kind))
    return (
        is_.is_integer(kind)
        or is_.is_null(kind)
        or (is_.is_floating(kind) and "float" in field.type)
    )


# --- the plan ------------------------------------------------------------------------------------


class ColumnMapping:
    """How batches with these columns become rows of this schema."""

    def __init__(self, schema: Schema, arrow: pa.Schema, where: str) -> None:
        self.schema, self.where = schema, where
        twice = sorted({name for name in arrow.names if arrow.names.count(name) > 1})
        if twice:
            raise InputError(
                f"{where}: column `{twice[0]}` stands there twice", "rename or drop one of them"
            )
        self.sources: dict[str, str] = {}  # our column: the input's column
        for field in schema.fields:
            found = next(
                (name for name in (field.name, *field.aliases) if name in arrow.names), None
            )
            if found:
                self._check_type(field, arrow.field(found))
                self.sources[field.name] = found
            elif field.required:
                raise InputError(
                    f"{where} has no column `{field.name}`, which {schema.name} needs; it has {_names(arrow)}",
                    f"rename the column, or make {schema.name} with csv2pairs"
                    if schema.name in ("examples", "texts")
                    else "rename the column",
                )
            elif field.filled:
                self.sources[field.name] = ""
        used = set(self.sources.values())
        unknown = [pa.field(f.name, canonical(f.type)) for f in arrow if f.name not in used]
        known = [
            pa.field(
                f.name, f.arrow or canonical(arrow.field(self.sources[f.name]).type), f.nullable
            )
            for f in schema.fields
            if f.name in self.sources
        ]
        self.columns = pa.schema([*known, *unknown])

    @property
    def renamed(self) -> dict[str, str]:
        return {ours: theirs for ours, theirs in self.sources.items() if theirs not in ("", ours)}

    def apply(self, batch: pa.RecordBatch, columns: pa.Schema, first_row: int) -> pa.RecordBatch:
        """`batch` in canonical types, with `columns` (a superset of ours), filled and checked.

        first_row: the number of the batch's first row in the file, from 1, for error texts.
        """
        arrays = []
        for field in columns:
            source = self.sources.get(field.name, field.name)
            index = batch.schema.get_field_index(source) if source else -1
            arrays.append(
                cast(batch.column(index), field.type)
                if index >= 0
                else pa.nulls(batch.num_rows, field.type)
            )
        filled = fill_ids(self.schema, pa.RecordBatch.from_arrays(arrays, schema=columns))
        check(self.schema, filled, self.where, first_row)
        return filled

    def _check_type(self, field: Field, found: pa.Field) -> None:
        if not _fits(canonical(found.type), field):
            raise InputError(
                f"{self.where}: column `{found.name}` is {found.type}, but {self.schema.name} needs {field.type}",
                "cast the column, or name another one",
            )


def _names(arrow: pa.Schema) -> str:
    shown = ", ".join(f"`{name}`" for name in arrow.names[:12]) or "no columns"
    return shown + (f" and {len(arrow.names) - 12} more" if len(arrow.names) > 12 else "")


def fill_ids(schema: Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give rows without an id one from their content: equal rows get equal ids."""
    index = batch.schema.get_field_index("id")
    field = schema.field("id")
    if index < 0 or not field or not field.filled or not batch.column(index).null_count:
        return batch
    content = [batch.column(f.name).to_pylist() for f in schema.fields if f.required]
    ids = [
        given
        if given is not None
        else content_id(*(part for value in parts for part in _strings(value)))
        for given, *parts in zip(batch.column(index).to_pylist(), *content)
    ]
    return batch.set_column(index, batch.schema.field(index), pa.array(ids, pa.string()))


def _strings(value: Any) -> Sequence[str]:
    items = value if isinstance(value, list) else [value]
    return [item or "" for item in items]


def check(schema: Schema, batch: pa.RecordBatch, where: str, first_row: int = 1) -> None:
    """Refuse the first row that breaks a promise of the schema. Cost: a few passes over lengths."""
    for field in schema.fields:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            continue
        array = batch.column(index)
        for wrong, what, fix in _violations(field, array, batch):
            if pc.any(wrong).as_py():
                row = pc.index(wrong, True).as_py()
                value = json.dumps(array[row].as_py(), ensure_ascii=False, default=str)
                shown = value if len(value) <= 80 else value[:77] + "..."
                raise InputError(
                    f"{where}, row {first_row + row:,}: `{field.name}` {what} ({shown})", fix
                )


def _violations(
    field: Field, array: pa.Array, batch: pa.RecordBatch
) -> Iterable[tuple[pa.Array, str, str]]:
    """For each promise of a field: which rows break it, what is wrong, what to do."""
    if not field.nullable:
        yield array.is_null(), "is null", "fill it or drop the row before this tool"
    if pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        items = array.flatten()
        if items.null_count:
            yield _rows_of(array, items.is_null()), "holds a null", "drop the nulls from the list"
        if field.finite:
            finite = (
                pc.is_finite(items.cast(pa.float32()))
                if pa.types.is_float16(items.type)
                else pc.is_finite(items)
            )
            yield (
                _rows_of(array, pc.invert(finite)),
                "holds a number that is not finite",
                "drop or score the row again",
            )
    elif field.finite:
        yield pc.invert(pc.is_finite(array)), "is not finite", "drop the row"
    if field.min_items:
        too_few = pc.less(pc.list_value_length(array), field.min_items)
        yield too_few, "is empty", f"give at least {field.min_items} item, or drop the row"
    if field.aligned_with:
        lengths = pc.list_value_length(column(batch, field.aligned_with, array.type))
        # A null list has no length: what stands beside it must be null too.
        differ = pc.not_equal(pc.list_value_length(array), pc.fill_null(lengths, -1))
        yield (
            differ,
            f"has not as many items as `{field.aligned_with}`",
            "give one item for each, or null for none",
        )
    if field.values:
        known = pc.is_in(array, pa.array([*field.values, None], pa.string()))
        yield pc.invert(known), "is none of " + ", ".join(field.values), "use one of these"
    if field.pattern:
        yield (
            pc.invert(pc.match_substring_regex(array, f"^(?:{field.pattern})$")),
            f"is not of the form {field.pattern}",
            "make the value again",
        )


def _rows_of(lists: pa.Array, wrong_items: pa.Array) -> pa.Array:
    """Which lists hold a wrong item."""
    parents = pc.list_parent_indices(lists).filter(pc.fill_null(wrong_items, False))
    return pc.is_in(pa.array(range(len(lists)), pa.int64()), parents.cast(pa.int64()))
