"""A reader that takes several schemas tells which one the input holds: by its stamp, else by its columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching import lineage
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report

ALL = ("tasks", "examples", "texts")
ROWS = {
    "tasks": {"task_description": "Find it.", "type": "sts"},
    "examples": {"anchor": "q", "positive": "p"},
    "texts": {"text": "t", "price": 3},
}


@pytest.mark.parametrize("extension", [".jsonl", ".parquet", ".arrows"])
@pytest.mark.parametrize("name", ALL)
def test_the_columns_tell_the_schema_under_all_their_names(
    name: str, extension: str, write: Any, tmp_path: Path
) -> None:
    reader = Reader(Report("test"), [write(tmp_path / f"in{extension}", [ROWS[name]] * 3)], ALL)
    assert reader.schema.name == name
    assert reader.read_all().num_rows == 3
    assert all(
        field.name in reader.columns.names for field in reader.schema.fields if field.required
    )


def test_the_stamp_wins_over_the_columns(tmp_path: Path) -> None:
    table = pa.table({"text": ["t"], "type": ["sts"]})
    stamp = lineage.stamp("texts", "1.0", lineage.make_node("maker", "1", options={}, sources=[]))
    pq.write_table(table.replace_schema_metadata(stamp), tmp_path / "in.parquet")
    assert Reader(Report("test"), [str(tmp_path / "in.parquet")], ALL).schema.name == "texts"


def test_where_nothing_fits_the_first_schema_is_the_one_that_is_missed(
    write: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no column `text`, which tasks needs"):
        Reader(Report("test"), [write(tmp_path / "in.jsonl", [{"other": 1}])], ALL)


def test_a_stamp_of_none_of_them_is_refused(tmp_path: Path) -> None:
    stamp = lineage.stamp(
        "measures", "1.0", lineage.make_node("maker", "1", options={}, sources=[])
    )
    pq.write_table(
        pa.table({"text": ["t"]}).replace_schema_metadata(stamp), tmp_path / "in.parquet"
    )
    with pytest.raises(InputError, match="holds measures"):
        Reader(Report("test"), [str(tmp_path / "in.parquet")], ALL)
