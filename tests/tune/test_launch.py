"""Programs as processes: they end with the one that started them, and their words are its error."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import environment

from fletching.errors import InputError, UsageError
from fletching.report import Report
from fletching_tune.steps.runner import StepRunner
from fletching_tune.steps.step import Step

HOLDER = """
from fletching.report import Report
from fletching_tune.steps.runner import StepRunner
from fletching_tune.steps.step import Step
runner = StepRunner("work", Report("t", quiet=True))
with runner.locked():
    runner.run(Step(name="long", stage="split", argv=("bash", "-c", "echo $$ > pid; exec sleep 300"), outputs=("never",)))
"""


def shell(script: str, *outputs: str) -> Step:
    return Step(name="step", stage="split", argv=("bash", "-c", script), outputs=outputs)


def test_a_killed_run_takes_its_program_with_it_and_leaves_the_folder_free(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    running = subprocess.Popen([sys.executable, "-c", HOLDER], env=environment())
    while not (Path("pid").exists() and Path("pid").read_text().strip()):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    program = Path("pid").read_text().strip()
    with StepRunner("work", Report("t", quiet=True)).locked():
        # It held the lock too, and has ended 300 seconds early: nothing or a zombie is left of it.
        state = Path(f"/proc/{program}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_two_runs_never_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("fletching_tune.steps.runner.WAIT_SECONDS", 0)
    work = str(tmp_path / "work")
    first, second = (StepRunner(work, Report("t", quiet=True)) for _ in range(2))
    refused = pytest.raises(InputError, match="another run is at work")
    with first.locked(), refused, second.locked():
        pass


@pytest.mark.parametrize(
    ("script", "error", "what", "fix"),
    [
        ("printf 'tool: a is wrong\\n  fix: do b\\n' >&2; exit 1", InputError, "tool: a is wrong", "do b"),
        ("printf 'tool: a is wrong\\n  fix: do b\\n' >&2; exit 2", UsageError, "tool: a is wrong", "do b"),
        ("echo boom >&2; exit 3", InputError, "bash ended with code 3: boom", "run it by hand"),
        ("exit 0", InputError, "bash left no out", "run it by hand"),
    ],
)  # fmt: skip
def test_a_program_that_fails_speaks_for_itself(script, error, what, fix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = StepRunner("work", Report("t", quiet=True))
    with runner.locked(), pytest.raises(error) as raised:
        runner.run(shell(script, "out"))
    assert what in raised.value.what
    assert fix in raised.value.fix


def test_a_program_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = StepRunner("work", Report("t", quiet=True))
    step = Step(name="step", stage="split", argv=("no-such-program",), outputs=("out",))
    with runner.locked(), pytest.raises(InputError, match="no-such-program is not installed"):
        runner.run(step)
