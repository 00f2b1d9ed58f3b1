"""Numbers and texts on disk come back as they were appended, as one array."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fletching.table import RaggedArray
from fletching.table.disk_array import DiskArray, DiskTexts

CELL = st.none() | st.text(max_size=5)


@given(st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=5))
def test_numbers_come_back_as_one_array(tmp_path_factory, parts):
    array = DiskArray(str(tmp_path_factory.mktemp("array") / "numbers"))
    for part in parts:
        array.append(np.array(part, np.int32))
    expected = [number for part in parts for number in part]
    assert array.finish().tolist() == expected
    assert array.rows == len(expected)


def test_rows_of_several_numbers_keep_their_shape_and_type(tmp_path):
    array = DiskArray(str(tmp_path / "numbers"))
    array.append(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[:, ::2])
    array.append(np.array([[7, 8]], np.uint8))
    rows = array.finish()
    assert rows.tolist() == [[1, 3], [4, 6], [7, 8]]
    assert rows.dtype == np.uint8


def test_rows_without_numbers_are_counted(tmp_path):
    array = DiskArray(str(tmp_path / "numbers"))
    array.append(np.zeros((3, 0), np.uint64))
    assert array.finish().shape == (3, 0)


@given(st.lists(st.lists(CELL, max_size=5), max_size=5))
def test_texts_come_back_with_their_nulls_also_from_slices(tmp_path_factory, parts):
    texts = DiskTexts(str(tmp_path_factory.mktemp("texts") / "texts"))
    for part in parts:
        texts.append(pa.array(["before", *part, None], pa.string()).slice(1, len(part)))
    column = texts.finish()
    column.validate(full=True)
    assert column.type == pa.large_string()
    assert column.to_pylist() == [cell for part in parts for cell in part]


def test_rows_are_taken_from_mapped_texts_in_any_order(tmp_path):
    texts = DiskTexts(str(tmp_path / "texts"))
    texts.append(pa.array(["a", "bb"]))
    texts.append(pa.array(["ccc", None]))
    column = texts.finish()
    assert column.take(pa.array([3, 2, 0, 2])).to_pylist() == [None, "ccc", "a", "ccc"]


def test_the_lengths_of_some_lists_are_those_of_all():
    lists = RaggedArray.from_lists([[5, 6], [], [7]])
    rows = np.array([2, 0, 0, 1])
    assert lists.lengths_of(rows).tolist() == lists.lengths[rows].tolist() == [1, 2, 2, 0]
