"""A trainer that was killed after its model appeared, and is given the same command again."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fault_injector import Fault
from fault_subjects import ALL, Subject
from fault_trials import digests, start

pytestmark = pytest.mark.slow  # as a whole: trains models

TRAINERS = [each for each in ALL if each.name in ("contrast-train", "distill", "mntp")]


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda each: each.name)
def test_a_run_that_was_killed_after_publishing_says_that_it_is_done(
    trainer: Subject, tmp_path: Path, model: str
) -> None:
    for name in ("counted", "work"):
        folder = tmp_path / name
        folder.mkdir()
        trainer.fill(folder)
    assert start(trainer, tmp_path / "counted", model=model, fault=Fault()).wait().code == 0
    points = int((tmp_path / "run.points").read_text())
    fault = Fault(point=points - 4, kill=9)  # the last ones remove what the run kept
    assert start(trainer, folder, model=model, fault=fault).wait().code == -9
    assert (folder / "out.run").exists()
    published = digests(folder / "out")
    changed = dataclasses.replace(trainer, line=f"{trainer.line} --lr 1e-2")
    other = start(changed, folder, model=model, fault=Fault(), name="other").wait()
    assert other.code == 1
    assert "out exists already, of other data or options: " in other.err
    assert "lr was" in other.err
    again = start(trainer, folder, model=model, fault=Fault(), name="again").wait()
    assert again.code == 0, again.err
    assert "out is done: an earlier run of this command published it" in again.err
    assert digests(folder / "out") == published
    assert sorted(os.listdir(folder)) == ["in.parquet", "out", "tmp"]
    refuse_another_command_once_nothing_but_the_model_is_left(trainer, folder, model)


def refuse_another_command_once_nothing_but_the_model_is_left(
    trainer: Subject, folder: Path, model: str
) -> None:
    """The same command is done then too; another one, and other rows, are refused."""
    left = digests(folder)
    again = start(trainer, folder, model=model, fault=Fault(), name="again").wait()
    assert again.code == 0, again.err
    assert "out is done: an earlier run of this command published it" in again.err
    assert digests(folder) == left
    changed = dataclasses.replace(trainer, line=f"{trainer.line} --lr 1e-2")
    other = start(changed, folder, model=model, fault=Fault(), name="other").wait()
    assert other.code == 1
    assert other.err.endswith(
        "out exists already\n  fix: name another folder, or remove it: rm -r out\n"
    )
    pq.write_table(pq.read_table(folder / "in.parquet").slice(1), folder / "in.parquet")
    other = start(trainer, folder, model=model, fault=Fault(), name="other").wait()
    assert other.code == 1
    assert "exists already, of other data or options: the command reads other rows" in other.err
    left.pop("in.parquet")
    assert {name: digest for name, digest in digests(folder).items() if name in left} == left
    assert sorted(os.listdir(folder)) == ["in.parquet", "out", "tmp"]


def test_a_lock_that_a_run_killed_at_its_very_end_left_goes(tmp_path: Path) -> None:
    from fletching.errors import InputError
    from fletching.train.run_dir import LOCK, RunDir

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").touch()
    (tmp_path / "out.run").mkdir()
    (tmp_path / "out.run" / LOCK).touch()
    with pytest.raises(InputError, match="exists already"):
        RunDir(str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["out"]
