"""Nodes that an engine loses: what it says late, or never, the records of the shards say.

Ray took over five minutes to give up a task on a node that was cut off from the network, while that
node still wrote to the file system of all.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from engine_runs import LINE

from fletching.report import Report
from fletching.shards import engine_run
from fletching.shards.engine_run import ShardRun
from fletching.shards.engines import LocalEngine, Outcome, WorkerPlan
from fletching.shards.record import RUNNING, SILENT, ShardRecord, input_states, read_record
from fletching.shards.running import ShardTask, run_shard

pytestmark = pytest.mark.slow


class EngineOfTwoNodes(LocalEngine):
    """The first shard goes to a node that is cut off then; all others to this machine."""

    may_fall_silent = True

    def __init__(self) -> None:
        super().__init__(WorkerPlan(count=2, cores=1, uses_gpus=False))
        self.submitted: list[int] = []

    def submit(self, task: ShardTask) -> None:
        self.submitted.append(task.shard.index)
        if self.submitted == [0]:
            self.submit_to_lost_node(task)
        else:
            super().submit(task)

    def submit_to_lost_node(self, task: ShardTask) -> None:
        os.makedirs(task.folder, exist_ok=True)
        inputs = input_states(task.words)
        record = ShardRecord(
            state=RUNNING, command=task.words, inputs=inputs, host="node2", pid=1, attempt=1
        )
        record.write(task.files.record)
        threading.Timer(1, silence, [task]).start()


class EngineWhoseNodeGoesOn(EngineOfTwoNodes):
    """The node that was cut off ends its shard, and nobody hears of it."""

    def submit_to_lost_node(self, task: ShardTask) -> None:
        threading.Thread(target=run_shard, args=[task]).start()


class EngineThatReportsTheLoss(EngineOfTwoNodes):
    """It says that the node is lost while the node's process still runs."""

    lost: ShardTask | None = None
    was_silent: bool | None = None

    def submit(self, task: ShardTask) -> None:
        if self.submitted.count(0) and task.shard.index == 0:
            self.was_silent = os.stat(task.files.record).st_mtime < SILENT
        super().submit(task)

    def submit_to_lost_node(self, task: ShardTask) -> None:
        super().submit_to_lost_node(task)
        self.lost = task

    def wait(self, seconds: float) -> list[Outcome]:
        if self.lost is None:
            return super().wait(seconds)
        task, self.lost = self.lost, None
        return [Outcome(task=task, code=None, what="lost (NodeDiedError)")]


def silence(task: ShardTask) -> None:
    """No sign of life for long."""
    os.utime(task.files.record, (0, 0))


def run(engine: EngineOfTwoNodes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three shards of texts2vectors on the engine: the hosts that made them."""
    monkeypatch.chdir(folder)
    for name, seconds in (("LOOK", 0.05), ("HEARTBEAT", 0.05)):
        monkeypatch.setattr(engine_run, name, seconds)
    words = [[*LINE, "--shard", f"{index}/3"] for index in range(3)]
    tasks = [ShardTask(folder="shards", words=each, cwd=str(folder)) for each in words]
    try:
        ShardRun(engine, tasks, Report("texts2vectors")).run()
    finally:
        engine.close()
    records = [read_record(task.files.record) for task in tasks]
    assert all(record is not None and record.exit_code == 0 for record in records)
    return [record.host for record in records if record]


def test_a_shard_on_a_node_that_fell_silent_is_run_again(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = EngineOfTwoNodes()
    assert "node2" not in run(engine, inputs, monkeypatch)
    assert sorted(engine.submitted) == [0, 0, 1, 2]
    expected = "shard 0/3: lost (no sign of life of node2), attempt 2 of 3"
    assert expected in capsys.readouterr().err


def test_a_shard_that_a_lost_node_has_ended_is_done(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineWhoseNodeGoesOn()
    run(engine, inputs, monkeypatch)
    assert sorted(engine.submitted) == [0, 1, 2]


def test_a_shard_that_a_lost_node_still_runs_waits_until_that_is_silent(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineThatReportsTheLoss()
    run(engine, inputs, monkeypatch)
    assert sorted(engine.submitted) == [0, 0, 1, 2]
    assert engine.was_silent
