"""A few dozen injected faults, seeded; `make faults` injects a thousand into every command."""

from __future__ import annotations

import functools
import signal
from typing import Any

import pytest
from fault_injector import Fault
from fault_subjects import ALL, Subject
from fault_trials import Reference, plan, refer, start

pytestmark = pytest.mark.slow  # as a whole: each test starts many commands

SEED = 3
TRIALS = {  # by command
    "csv2pairs": 5,
    "csv2pairs, splits with negatives": 5,
    "csv2pairs, stream": 2,
    "arrowcat, conversion": 3,
    "simfilter": 4,
    "synthgen": 4,
    "contrast-train": 1,
}


@functools.cache
def reference_of(subject: Subject, model: str) -> Reference:
    """What an undisturbed run leaves; made once."""
    return refer(subject, model)


@pytest.mark.parametrize(
    "subject", [each for each in ALL if each.name in TRIALS], ids=lambda each: each.name
)
def test_after_a_fault_an_output_is_absent_or_whole_and_the_next_run_ends_the_same(
    subject: Subject, model: str
) -> None:
    reference = reference_of(subject, model)
    for trial in plan([subject], TRIALS[subject.name], SEED):
        trial.run(model, reference)
        assert trial.defects == [], f"trial {trial.seed}, {trial.kind}"


def test_the_injector_strikes_where_it_is_told(tmp_path: Any, model: str) -> None:
    """Without this, a suite of faults that never happen would pass."""
    [subject] = [each for each in ALL if each.name == "arrowcat, conversion"]
    folder = tmp_path / "work"
    folder.mkdir()
    subject.fill(folder)
    last = refer(subject, model).points
    for point in (1, last // 2, last):
        ended = start(subject, folder, model=model, fault=Fault(point=point, kill=9)).wait()
        assert ended.code == -signal.SIGKILL
    ended = start(subject, folder, model=model, fault=Fault(point=2, error=28, lasts=True)).wait()
    assert ended.code == 1
    assert "no space left on device" in ended.err
    assert start(subject, folder, model=model, fault=Fault(point=last + 1, kill=9)).wait().code == 0


def test_a_termination_while_the_summary_is_written_unwinds_too(tmp_path: Any, model: str) -> None:
    [subject] = [each for each in ALL if each.name == "csv2pairs"]
    folder = tmp_path / "work"
    folder.mkdir()
    subject.fill(folder)
    last = refer(subject, model).points
    fault = Fault(point=last - 1, kill=signal.SIGTERM)
    ended = start(subject, folder, model=model, fault=fault).wait()
    assert ended.code == 143
    assert ended.err.endswith("csv2pairs: terminated\n")
    assert (folder / "out.parquet").exists()
    assert not list(folder.glob(".*"))
