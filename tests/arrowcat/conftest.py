"""What the tests of arrowcat share: its command in this process, and rows written by our own Writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Ran

from arrowcat.cli import main
from fletching import schema
from fletching.io import Writer
from fletching.report import Report


@pytest.fixture
def look(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """look("rows.jsonl", "--stats", columns=80): arrowcat in this process, on a pipe of this width."""

    def look(*argv: Any, columns: int = 100, stdin: bytes = b"") -> Ran:
        monkeypatch.setenv("COLUMNS", str(columns))
        return invoke(main, *argv, stdin=stdin)

    return look


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., str]:
    """stored(rows, name="rows.parquet"): the path of `examples` with stamp and trailer."""

    def stored(rows: list[dict[str, Any]], name: str = "rows.parquet", **extra: pa.DataType) -> str:
        names = list(dict.fromkeys(name for row in rows for name in row))
        unknown = [pa.field(name, kind) for name, kind in extra.items()]
        columns = schema.load("examples").arrow(names, unknown)
        path = str(tmp_path / name)
        options = {"negatives": 7}
        report = Report("maker", quiet=True)
        with Writer(
            report, path, "examples", columns, version="0.1", options=options, count=False
        ) as out:
            out.write(pa.RecordBatch.from_pylist(rows, columns))
        return path

    return stored


@pytest.fixture
def scored() -> list[dict[str, Any]]:
    """Rows with every column that scoring and mining fill in."""
    subjects = ["owl", "bread", "tide", "iron", "violin", "chess"]
    rows = []
    for number, subject in enumerate(subjects):
        negatives = [f"{subject} is not {other}" for other in subjects[: number % 4]]
        rows.append(
            {
                "id": f"r{number}",
                "query": f"What is {subject}?",
                "pos": [f"{subject.title()} is a thing."],
                "neg": negatives if number != 5 else None,
                "pos_scores": [0.9],
                "neg_scores": [0.1 * place for place in range(len(negatives))]
                if number != 5
                else None,
                "pos_score_kind": "cosine",
                "neg_score_kind": "cosine" if number != 5 else None,
                "task": "a" if number < 4 else "b",
                "domain": None if number == 0 else "x",
            }
        )
    return rows
