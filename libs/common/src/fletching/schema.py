"""The exchange contract of `schemas/`, loaded from its JSON files.

`fletching.column_mapping` enforces it on the rows that tools read and write.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fletching.arrow_types import canonical, cast

__all__ = ["NAMES", "Field", "Schema", "canonical", "cast", "column", "extend", "load"]

NAMES = ("examples", "texts", "vectors", "candidates", "tasks", "measures")

_ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "list<string>": pa.list_(pa.string()),
    "list<int64>": pa.list_(pa.int64()),
    "list<float32>": pa.list_(pa.float32()),
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column of a schema, as `schema.json` states it."""

    name: str
    type: str
    nullable: bool
    meaning: str
    required: bool = False  # every file has it; the other columns may be absent
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
        return _ARROW_TYPES.get(self.type)

    @property
    def is_id(self) -> bool:
        """Ids are often numbers in foreign files and are read as text; texts never are numbers."""
        return self.name == "id" or self.name.endswith("_ids")

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its aliases, the one that wins first."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Schema:
    """A kind of rows: the columns that a file of it has or may have."""

    name: str
    version: str
    description: str
    fields: tuple[Field, ...]

    @property
    def major(self) -> str:
        """The part of the version that readers compare."""
        return self.version.split(".")[0]

    def field(self, name: str) -> Field | None:
        """The field of this name, if there is one."""
        return next((field for field in self.fields if field.name == name), None)

    def arrow(self, names: Iterable[str], passed_through: Iterable[pa.Field] = ()) -> pa.Schema:
        """The Arrow schema of these known columns, in our order, then of unknown ones."""
        selected = set(names)
        known = [pa.field(f.name, f.arrow, f.nullable) for f in self.fields if f.name in selected]
        return pa.schema([*known, *passed_through])


@functools.cache
def load(name: str) -> Schema:
    """The schema of this name, newest major version."""
    path = importlib.resources.files("fletching") / "schemas" / name / "v1" / "schema.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    fields = tuple(_field(statement) for statement in content["fields"])
    return Schema(content["name"], content["version"], content["description"], fields=fields)


def _field(statement: Mapping[str, Any]) -> Field:
    frozen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in statement.items()
    }
    return Field(**frozen)


def extend(schema: Schema, columns: pa.Schema, *names: str) -> pa.Schema:
    """`columns` with these known columns added where they are missing: the schema a tool writes."""
    unknown = [field for field in columns if schema.field(field.name) is None]
    present = [field.name for field in columns if schema.field(field.name)]
    return schema.arrow([*present, *names], unknown)


def column(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    """A column of a batch, or nulls of type `kind` where it has none."""
    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else pa.nulls(batch.num_rows, kind)
