"""What a table is like, in figures: lengths, nulls, duplicates, scores, negatives, groups."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.types import (
    is_boolean,
    is_fixed_size_list,
    is_floating,
    is_integer,
    is_list,
    is_string,
)

from arrowcat.figures.distributions import LengthCounts, ScoreValues, Summary
from arrowcat.figures.text_measure import TextMeasure
from arrowcat.rows.input_rows import type_name
from fletching.schema import Schema
from fletching.table.key_set import GrowingKeySet, Keys
from fletching.table.ragged_array import Integers
from fletching.text_keys import ABSENT, hash_texts, mix

if TYPE_CHECKING:
    from arrowcat.figures.group_statistics import GroupTable

GROUPED_BY = ("task", "domain")
# Columns whose texts are names: their lengths say nothing.
NAMES = ("id", *GROUPED_BY)
NAME_ENDINGS = ("_kind", "_hash", "_ids")

Figures = dict[str, Any]  # as JSON


class ColumnStatistics:
    """One column: nulls, lengths of texts, items of lists, numbers, norms, values of names.

    is_name: of ids, kinds and groups.
    """

    def __init__(self, field: pa.Field, measure: TextMeasure) -> None:
        self.name, self.type, self.measure = field.name, field.type, measure
        self.nulls = 0
        self.empty = 0  # texts of no characters, in lists too
        self.lengths = LengthCounts()
        self.items = LengthCounts()
        self.numbers = ScoreValues()
        self.values: Counter[str] = Counter()
        self.is_name = field.name.endswith(NAME_ENDINGS) or field.name in NAMES

    @property
    def numbers_name(self) -> str:
        """What its numbers are: its name, or `norm of vector`."""
        return f"norm of {self.name}" if is_fixed_size_list(self.type) else self.name

    @property
    def is_list(self) -> bool:
        """Has each row a list of any length?"""
        return bool(is_list(self.type))

    def add(self, column: pa.Array) -> Integers | None:
        """Count a batch; the lengths of its texts, in lists item after item; None without texts."""
        self.nulls += column.null_count
        if is_list(column.type):
            sizes = pc.list_value_length(column).drop_null()
            self.items.add(np.asarray(sizes, np.int64))
        if is_fixed_size_list(column.type):
            self.numbers.add(_norms(column))
            return None
        if is_list(column.type):
            column = column.flatten()
        if is_string(column.type):
            return self._add_texts(column)
        if is_integer(column.type) or is_floating(column.type):
            self.numbers.add(column.drop_null().to_numpy(zero_copy_only=False))
        elif is_boolean(column.type):
            self._count_values(column.cast(pa.string()))
        return None

    def _add_texts(self, texts: pa.StringArray) -> Integers | None:
        if self.name.endswith("_kind"):
            self._count_values(texts)
        if self.is_name:
            return None
        lengths = self.measure.lengths(texts)
        present = np.asarray(texts.is_valid())
        self.lengths.add(lengths[present])
        is_empty = pc.equal(texts, "").fill_null(False)
        self.empty += is_empty.true_count
        return lengths

    def _count_values(self, texts: pa.StringArray) -> None:
        for entry in texts.drop_null().value_counts().to_pylist():
            self.values[entry["values"]] += entry["counts"]

    def figures(self) -> Figures:
        """As JSON."""
        figures: Figures = {"type": type_name(self.type), "nulls": self.nulls}
        if self.lengths.counts:
            figures["lengths"] = _as_json(self.lengths.summary())
            figures["empty_texts"] = self.empty
        if self.is_list:
            figures["items"] = _as_json(self.items.summary())
        if not self.is_name and self.numbers.parts:
            figures["numbers"] = _as_json(self.numbers.summary())
            figures["not_finite"] = self.numbers.not_finite
        if self.values:
            figures["values"] = dict(sorted(self.values.items()))
        return figures


def _norms(vectors: pa.FixedSizeListArray) -> npt.NDArray[np.float32]:
    """The Euclidean norm of each vector that is not null, (n,); NaN for one that holds a null."""
    values = vectors.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
    rows: npt.NDArray[np.float32] = values.reshape(-1, vectors.type.list_size)
    norms: npt.NDArray[np.float32] = np.linalg.norm(rows, axis=1)
    return norms


def _as_json(summary: Summary | None) -> Figures | None:
    return None if summary is None else dict(vars(summary))


class DuplicateCounts:
    """Texts and pairs that came up before, equal after normalisation; 8 bytes for each new one."""

    def __init__(self) -> None:
        self.texts = GrowingKeySet()
        self.pairs = GrowingKeySet()
        self.repeated_texts = 0
        self.repeated_pairs = 0

    def add_texts(self, keys: Keys) -> None:
        """Count texts by their keys; blank ones do not count."""
        present = keys[keys != ABSENT]
        is_new = self.texts.add_new(present)
        self.repeated_texts += int((~is_new).sum())

    def add_pairs(self, keys: Keys, positives: pa.Array) -> None:
        """Count (query, positive) pairs. keys: of the queries, (rows,)."""
        owners = np.asarray(pc.list_parent_indices(positives), np.int64)
        queries = keys[owners]
        texts = hash_texts(positives.flatten())
        is_whole = (queries != ABSENT) & (texts != ABSENT)
        pairs = mix(queries[is_whole], texts[is_whole])
        is_new = self.pairs.add_new(pairs)
        self.repeated_pairs += int((~is_new).sum())


class TableStatistics:
    """Figures of a whole table, batch by batch."""

    def __init__(self, schema: Schema, columns: pa.Schema, measure: TextMeasure) -> None:
        self.schema, self.measure = schema, measure
        self.rows = 0
        self.columns = {field.name: ColumnStatistics(field, measure) for field in columns}
        self.main = "query" if schema.name == "examples" else "text"
        self.duplicates: DuplicateCounts | None = None
        self.groups: dict[str, GroupTable] = {}
        if self.main not in self.columns or schema.name not in ("examples", "texts"):
            return
        from arrowcat.figures.group_statistics import GroupTable

        self.duplicates = DuplicateCounts()
        grouped = [name for name in GROUPED_BY if name in self.columns]
        self.groups = {name: GroupTable(name, self.main) for name in grouped}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch."""
        self.rows += batch.num_rows
        lengths: dict[str, Integers] = {}
        for name, column in self.columns.items():
            measured = column.add(batch[name])
            if measured is not None:
                lengths[name] = measured
        if self.duplicates is not None:
            keys = hash_texts(batch[self.main])
            self.duplicates.add_texts(keys)
            if "pos" in self.columns:
                self.duplicates.add_pairs(keys, batch["pos"])
        for group in self.groups.values():
            group.add(batch, lengths)

    def figures(self) -> Figures:
        """All of it as JSON."""
        figures: Figures = {
            "schema": self.schema.name,
            "rows": self.rows,
            "unit": self.measure.unit,
            "columns": {name: column.figures() for name, column in self.columns.items()},
        }
        if self.duplicates is not None:
            figures["duplicates"] = {
                self.main: self.duplicates.repeated_texts,
                "pairs": self.duplicates.repeated_pairs,
            }
        for name, group in self.groups.items():
            figures[f"by_{name}"] = group.records()
        return figures
