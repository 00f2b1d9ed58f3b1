"""Batches are cut by the rows alone, and long rows wait on disk."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import arrowcat.cli
from fletching.io import blocks


def cut_in_memory(table: pa.Table) -> list[int]:
    """The rows of each batch where all 8,192 are copied end to end first."""
    batches: list[pa.RecordBatch] = []
    for start in range(0, table.num_rows, blocks.BATCH_ROWS):
        whole = table.slice(start, blocks.BATCH_ROWS).combine_chunks().to_batches()
        for batch in whole:
            batches += blocks.split(batch)
    return [batch.num_rows for batch in batches]


@pytest.mark.parametrize("seed", range(6))
def test_long_rows_are_cut_as_if_all_were_in_memory(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BATCH_ROWS", 256)
    monkeypatch.setattr(blocks, "BATCH_BYTES", 1 << 16)
    monkeypatch.setattr(blocks, "MEMORY", 1 << 17)
    draw = random.Random(seed)
    rows = [
        {
            "id": None if draw.random() < 0.1 else str(number),
            "pos": ["x" * min(int(draw.paretovariate(0.6) * 20), 9000)] * draw.randrange(3),
        }
        for number in range(draw.randrange(1, 900))
    ]
    columns = pa.schema([("id", pa.string()), ("pos", pa.list_(pa.string()))])
    table = pa.Table.from_pylist(rows, columns)

    def in_pieces() -> Iterator[pa.RecordBatch]:
        start = 0
        while start < len(rows):
            count = draw.randrange(1, 90)
            yield from table.slice(start, count).to_batches()
            start += count

    batches = list(blocks.rechunk(in_pieces(), columns))
    assert pa.Table.from_batches(batches, columns).to_pylist() == rows
    assert [batch.num_rows for batch in batches] == cut_in_memory(table)


@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "refused at the end"])
def test_rows_that_wait_on_disk_give_the_same_bytes_and_leave_no_file(
    is_broken: bool, invoke: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [{"query": f"q {number}", "pos": ["x" * 3000]} for number in range(300)]
    if is_broken:
        rows.append({"query": "", "pos": []})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "in.jsonl").write_text(lines)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(blocks, "BATCH_BYTES", 1 << 16)
    outputs = []
    for name, memory in (("a.parquet", blocks.MEMORY), ("b.parquet", 1 << 17)):
        monkeypatch.setattr(blocks, "MEMORY", memory)
        done = invoke(arrowcat.cli.main, tmp_path / "in.jsonl", "-o", tmp_path / name)
        assert done.rc == int(is_broken), done.err
        outputs += [path.read_bytes() for path in tmp_path.glob(name)]
    assert len(outputs) == (0 if is_broken else 2) and len(set(outputs)) <= 1
    assert list(scratch.iterdir()) == []
