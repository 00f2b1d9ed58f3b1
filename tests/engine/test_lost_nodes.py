"""Nodes that an engine loses: what it says late, or never, the records of the shards say.

Ray took over five minutes to give up a task on a node that was cut off from the network, while that
node still wrote to the file system of all.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from engine_runs import LINE

from fletching.report import Report
from fletching.shards import engine_run, running
from fletching.shards.engine_run import ShardRun
from fletching.shards.engines import LocalEngine, Outcome, WorkerPlan
from fletching.shards.record import RUNNING, ShardRecord, input_states, read_record
from fletching.shards.running import ShardTask, run_shard

pytestmark = pytest.mark.slow
PATIENCE = 3.0  # seconds; a loaded machine may stall a sign of life for one
LOST = "lost (NodeDiedError)"


class EngineOfTwoNodes(LocalEngine):
    """The first attempt at shard 0 goes to a node that is cut off, all others to this machine."""

    may_fall_silent = True

    def __init__(self) -> None:
        super().__init__(WorkerPlan(count=2, cores=1, uses_gpus=False))
        self.submitted: list[int] = []
        self.forgotten: list[int] = []
        self.seconds: list[float] = []  # of each attempt at shard 0

    def submit(self, task: ShardTask) -> None:
        self.submitted.append(task.shard.index)
        if task.shard.index == 0:
            self.seconds.append(time.monotonic())
        if self.submitted == [0]:
            self.submit_to_lost_node(task)
        else:
            self.submit_again(task)

    def submit_to_lost_node(self, task: ShardTask) -> None:
        """A node that shows life once."""
        write_running(task, host="node2", pid=1)

    def submit_again(self, task: ShardTask) -> None:
        if task.shard.index == 0:  # the clock of the worker says too that the record is old
            os.utime(task.files.record, (0, 0))
        super().submit(task)

    def forget(self, task: ShardTask) -> None:
        self.forgotten.append(task.shard.index)


class EngineWhoseNodeGoesOn(EngineOfTwoNodes):
    """The node that was cut off ends its shard, and nobody hears of it."""

    def submit_to_lost_node(self, task: ShardTask) -> None:
        threading.Thread(target=run_shard, args=[task], daemon=True).start()


class EngineThatReportsTheLoss(EngineOfTwoNodes):
    """It says at once that the node is lost, while the node's process may still run."""

    lost: ShardTask | None = None

    def submit_to_lost_node(self, task: ShardTask) -> None:
        super().submit_to_lost_node(task)
        self.lost = task

    def wait(self, seconds: float) -> list[Outcome]:
        if self.lost is None:
            return super().wait(seconds)
        task, self.lost = self.lost, None
        return [Outcome(task=task, code=None, what=LOST)]


class EngineThatQueues(EngineThatReportsTheLoss):
    """A worker of this machine dies at once; the second attempt waits long for another."""

    def submit_to_lost_node(self, task: ShardTask) -> None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        write_running(task, host=socket.gethostname(), pid=ended.pid)
        self.lost = task

    def submit_again(self, task: ShardTask) -> None:
        if task.shard.index == 0:
            threading.Timer(1.5 * PATIENCE, super().submit_again, [task]).start()
        else:
            super().submit_again(task)


def write_running(task: ShardTask, *, host: str, pid: int) -> None:
    os.makedirs(task.folder, exist_ok=True)
    record = ShardRecord(
        state=RUNNING,
        command=task.words,
        inputs=input_states(task.words),
        host=host,
        pid=pid,
        attempt=1,
    )
    record.write(task.files.record)


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A loop that never ends is a failure, and no hanging suite."""

    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    former = signal.signal(signal.SIGALRM, expire)
    signal.alarm(90)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


def run(engine: EngineOfTwoNodes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards of texts2vectors on the engine."""
    monkeypatch.chdir(folder)
    for name, seconds in (("LOOK", 0.05), ("HEARTBEAT", 0.1), ("PATIENCE", PATIENCE)):
        monkeypatch.setattr(engine_run, name, seconds)
    monkeypatch.setattr(running, "HEARTBEAT", 0.1)
    monkeypatch.setattr(running, "LOOK", 0.05)
    words = [[*LINE, "--shard", f"{index}/3"] for index in range(3)]
    tasks = [ShardTask(folder="shards", words=each, cwd=str(folder)) for each in words]
    try:
        ShardRun(engine, tasks, Report("texts2vectors")).run()
    finally:
        engine.close()
    for task in tasks:
        record = read_record(task.files.record)
        assert record is not None and record.exit_code == 0 and record.host == socket.gethostname()


def test_a_shard_on_a_node_that_fell_silent_is_run_again(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = EngineOfTwoNodes()
    run(engine, inputs, monkeypatch)
    assert sorted(engine.submitted) == [0, 0, 1, 2] and engine.forgotten == [0]
    assert engine.seconds[1] - engine.seconds[0] > PATIENCE
    expected = "shard 0/3: lost (no sign of life of node2), attempt 2 of 3"
    assert expected in capsys.readouterr().err


def test_a_shard_that_a_lost_node_has_ended_is_done(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineWhoseNodeGoesOn()
    run(engine, inputs, monkeypatch)
    assert sorted(engine.submitted) == [0, 1, 2] and engine.forgotten == [0]


def test_a_shard_that_a_lost_node_may_still_run_waits_until_that_is_silent(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineThatReportsTheLoss()
    run(engine, inputs, monkeypatch)
    assert sorted(engine.submitted) == [0, 0, 1, 2] and engine.forgotten == []
    assert engine.seconds[1] - engine.seconds[0] > PATIENCE


def test_the_record_of_an_earlier_attempt_says_nothing_of_one_that_waits_for_a_worker(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineThatQueues()
    run(engine, inputs, monkeypatch)
    assert sorted(engine.submitted) == [0, 0, 1, 2] and engine.forgotten == []
