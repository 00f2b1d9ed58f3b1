"""What the stream tests share: rows written by our own Writer, and rows read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fletching import schema
from fletching.io import Reader, Writer
from fletching.report import Report

EXAMPLES = schema.load("examples")
FORMATS = (".parquet", ".arrow", ".feather", ".arrows", ".jsonl", ".jsonl.gz", ".jsonl.zst")


def columns_of(rows: Sequence[dict[str, Any]]) -> pa.Schema:
    """Known columns in their type, unknown ones as pyarrow takes them."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["id", "query", "pos"]
    unknown = [
        pa.field(name, pa.array([row.get(name) for row in rows]).type)
        for name in names
        if EXAMPLES.field(name) is None
    ]
    return EXAMPLES.arrow(names, unknown)


def write(
    path: Any, rows: Sequence[dict[str, Any]], batches: int = 1, columns: pa.Schema | None = None
) -> Path:
    """Rows through Writer, handed over in `batches` parts."""
    columns = columns or columns_of(rows)
    size = max(-(-len(rows) // batches), 1)
    with Writer(
        Report("maker", quiet=True),
        str(path),
        "examples",
        columns,
        version="1",
        options={},
        count=False,
    ) as out:
        for start in range(0, len(rows), size):
            out.write(pa.RecordBatch.from_pylist(list(rows[start : start + size]), columns))
    return Path(path)


def read(*inputs: Any, limit: int | None = None) -> list[dict[str, Any]]:
    return (
        Reader(
            Report("reader", quiet=True), [str(name) for name in inputs], "examples", limit=limit
        )
        .read_all()
        .to_pylist()
    )


def numbered(count: int, length: int = 1) -> list[dict[str, Any]]:
    return [
        {"id": f"row-{i}", "query": f"query {i} " * length, "pos": [f"answer {i}"]}
        for i in range(count)
    ]
