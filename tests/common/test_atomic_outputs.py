"""Several outputs of one run appear together or not at all."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from fletching.io import AtomicOutputs, Writer
from fletching.report import Report

COLUMNS = pa.schema([pa.field("id", pa.string(), False), pa.field("text", pa.string(), False)])
ROWS = pa.RecordBatch.from_pylist([{"id": "a", "text": "b"}], COLUMNS)


def writer(report: Report, path, count: bool = True) -> Writer:
    return Writer(report, str(path), "texts", COLUMNS, version="1", options={}, count=count)


def test_all_files_are_complete_before_the_first_takes_its_name(tmp_path, monkeypatch):
    report = Report("tool", quiet=True)
    report.rows_in = 2
    seen = []

    def replace(source, target, real=os.replace):
        seen.append(sorted(os.path.getsize(tmp_path / name) > 0 for name in os.listdir(tmp_path)))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with AtomicOutputs(
        writer(report, tmp_path / "a.parquet"), writer(report, tmp_path / "b.jsonl")
    ) as outputs:
        for out in outputs.writers:
            out.write(ROWS)
    assert seen == [[True, True], [True, True]]
    assert sorted(os.listdir(tmp_path)) == ["a.parquet", "b.jsonl"]


def test_a_failure_of_the_last_output_leaves_none_of_the_first(tmp_path, monkeypatch):
    report = Report("tool", quiet=True)
    report.rows_in = 2
    first, last = writer(report, tmp_path / "a.parquet"), writer(report, tmp_path / "b.parquet")

    def full(end):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), AtomicOutputs(first, last):
        first.write(ROWS)
        last.write(ROWS)
        monkeypatch.setattr(last.sink, "close", full)
    assert os.listdir(tmp_path) == []


def test_an_exception_in_the_block_withdraws_every_output_even_a_completed_one(tmp_path):
    report = Report("tool", quiet=True)
    with pytest.raises(KeyError), AtomicOutputs() as outputs:
        outputs.add(writer(report, tmp_path / "a.parquet")).complete()
        outputs.add(writer(report, tmp_path / "b.arrow")).write(ROWS)
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_the_account_of_all_counted_outputs_must_balance(tmp_path):
    report = Report("tool", quiet=True)
    report.rows_in = 3
    with (
        pytest.raises(RuntimeError, match="add up"),
        AtomicOutputs(writer(report, tmp_path / "a.parquet")) as outputs,
    ):
        side = outputs.add(writer(report, tmp_path / "side.parquet", count=False))
        outputs.writers[0].write(ROWS)
        for _ in range(2):
            side.write(ROWS)
    assert os.listdir(tmp_path) == []
