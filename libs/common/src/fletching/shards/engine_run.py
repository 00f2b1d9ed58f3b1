"""What `--engine` of a tool does: all shards side by side, then one output of them.

The shards wait in `OUT.shards` until the output is complete. The same command after a failure runs
those that are not there yet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fletching.cli import Tool
from fletching.errors import InputError, UsageError
from fletching.options import EngineOptions, Shard, describe
from fletching.report import PLAIN_LINE_SECONDS, Report, print_line
from fletching.shards.engines import Engine, Outcome, WorkerPlan, open_engine
from fletching.shards.folder import ShardFolder, how_it_ended, read_folder
from fletching.shards.joining import join_shards
from fletching.shards.record import (
    HEARTBEAT,
    RUNNING,
    SILENT,
    ShardFiles,
    ShardRecord,
    input_states,
    is_alive,
    last_line,
    read_record,
)
from fletching.shards.running import ShardTask, check_is_of_this_run
from fletching.shards.words import command_words
from fletching.table import atomic

ATTEMPTS = 3
WORKER_CORES = 4
LOOK = 1.0  # seconds between two looks at what has ended
# Seconds until a silent shard is lost. A worker that takes it over must find it lost as well.
PATIENCE = SILENT + 2 * HEARTBEAT
WRONG_USAGE = UsageError.code
# Options of the whole run, which no shard has.
OF_THE_RUN = {field.name for field in dataclasses.fields(EngineOptions)} | {
    "config", "dry_run", "json_summary", "output", "print_config", "quiet", "verbose",
}  # fmt: skip


def run_and_join(tool: Tool, options: Any, report: Report) -> None:  # noqa: ANN401
    """Run the tool over all shards of --shard, and write what one run writes."""
    written = {name: getattr(options, name) for name in _side_outputs(options)}
    with shards_of(tool, options, report) as folder:
        join_shards(folder, options.output, side_outputs=written, report=report)


@contextlib.contextmanager
def shards_of(
    tool: Tool,
    options: Any,  # noqa: ANN401
    report: Report,
    *,
    flag: str = "shard",
) -> Iterator[ShardFolder]:
    """All shards, done; they are removed when the block succeeds."""
    path = f"{options.output}.shards"
    encodes_here = not (options.base_url or options.vectors)
    uses_gpus = options.device.startswith("cuda") if options.device else encodes_here
    cores = options.worker_cores or WORKER_CORES
    plan = WorkerPlan(count=options.workers, cores=cores, uses_gpus=uses_gpus)
    engine = open_engine(options.engine, plan)
    try:
        count = options.shards or engine.workers
        tasks = [
            _task(tool, options, path, flag=flag, shard=Shard(index=index, count=count))
            for index in range(count)
        ]
        _check_folder(path, tasks)
        ShardRun(engine, tasks, report).run()
    finally:
        engine.close()
    folder = read_folder(path)
    folder.check()
    yield folder
    atomic.remove(path)


def _task(tool: Tool, options: object, path: str, *, flag: str, shard: Shard) -> ShardTask:
    files = ShardFiles(path, shard)
    side = {name: files.side_output(name) for name in _side_outputs(options)}
    words = command_words(
        tool.name,
        options,
        leave_out=OF_THE_RUN,
        replaced={flag: f"{shard.index}/{shard.count}", **side},
    )
    return ShardTask(folder=path, words=words, cwd=os.getcwd())


def _side_outputs(options: object) -> list[str]:
    """The options that name a further output and have a value."""
    return [
        name
        for name, opt in describe(type(options)).items()
        if opt.details["written"] and name not in OF_THE_RUN and getattr(options, name)
    ]


def _check_folder(path: str, tasks: list[ShardTask]) -> None:
    """Raise InputError where the folder holds shards of another run."""
    inputs = input_states(tasks[0].words)
    for task in tasks:
        check_is_of_this_run(task, inputs)
    wanted = {task.files.stem for task in tasks}
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
        files = ShardFiles.of_record(os.path.join(path, name))
        if files is not None and files.stem not in wanted:
            count = files.shard.count
            what = f"{path} holds shards of {count}, and this run has {len(tasks)}"
            raise InputError(what, f"pass --shards {count}, or remove the folder")


@dataclass(frozen=True)
class _Sign:
    """The latest sign of life. stamp: of the record. seen: by the monotonic clock of here.

    seen is None as long as the record is what it was before the attempt.
    """

    stamp: int | None
    seen: float | None = None


class ShardRun:
    """The shards of one run on an engine; a shard may fail twice."""

    def __init__(self, engine: Engine, tasks: list[ShardTask], report: Report) -> None:
        self.engine, self.tasks, self.report = engine, tasks, report
        self.waiting = deque(task for task in tasks if not os.path.exists(task.files.output))
        self.running: list[ShardTask] = []
        self.failures: Counter[str] = Counter()
        self.next_lines = time.monotonic() + PLAIN_LINE_SECONDS
        self.shown: dict[str, str] = {}
        self.signs: dict[str, _Sign] = {}
        self.next_records = 0.0

    def run(self) -> None:
        """Run them all. Raises InputError for a shard that failed three times."""
        done = len(self.tasks) - len(self.waiting)
        if done:
            self.report.note(f"{done} of {len(self.tasks)} shards are done already")
        total = len(self.tasks)
        with self.report.progress("running", total=total, unit="shards") as progress:
            progress.advance(done)
            while self.waiting or self.running:
                self._submit()
                for outcome in self._collect():
                    self.running.remove(outcome.task)
                    if outcome.code == 0:
                        progress.advance()
                    else:
                        self._retry(outcome)
                self._show_workers()

    def _submit(self) -> None:
        """Start what waits, as long as there are free workers."""
        for _ in range(len(self.waiting)):
            if len(self.running) >= self.engine.workers:
                return
            task = self.waiting.popleft()
            if self.failures[_name(task)] and self._may_still_run(task):
                self.waiting.append(task)
                continue
            self.signs[_name(task)] = _Sign(_stamp(task))
            self.running.append(task)
            self.engine.submit(task)

    def _collect(self) -> list[Outcome]:
        """What has ended, by the engine's word or by the records of the shards."""
        if not self.running:  # those that wait may still be run by lost nodes
            time.sleep(LOOK)
            return []
        outcomes = self.engine.wait(LOOK)
        if outcomes or not self.engine.may_fall_silent or time.monotonic() < self.next_records:
            return outcomes
        self.next_records = time.monotonic() + HEARTBEAT
        outcomes = [outcome for task in self.running if (outcome := self._outcome_by_record(task))]
        for outcome in outcomes:
            self.engine.forget(outcome.task)
        return outcomes

    def _outcome_by_record(self, task: ShardTask) -> Outcome | None:
        """How a shard ended by its record, where the engine had the time to say so."""
        silence = self._silence(task)
        record = None if silence is None else _read_record(task)
        if silence is None or record is None:
            return None
        if record.state == RUNNING:
            what = f"lost (no sign of life of {record.host})"
            return Outcome(task=task, code=None, what=what) if silence > PATIENCE else None
        return Outcome(task=task, code=record.exit_code) if silence > 2 * HEARTBEAT else None

    def _may_still_run(self, task: ShardTask) -> bool:
        """On a node that was cut off a process goes on for a while, and may end well."""
        record = _read_record(task)
        if record is None or record.state != RUNNING:
            return False
        if record.host == socket.gethostname():
            return is_alive(task.files.record, record)
        return (self._silence(task) or 0) <= PATIENCE

    def _silence(self, task: ShardTask) -> float | None:
        """Seconds since the record of this attempt was last touched; None before it was.

        By this machine's clock alone: those of nodes and of file servers differ.
        """
        sign, stamp = self.signs[_name(task)], _stamp(task)
        if stamp != sign.stamp:
            sign = self.signs[_name(task)] = _Sign(stamp, time.monotonic())
        return None if sign.seen is None else time.monotonic() - sign.seen

    def _retry(self, outcome: Outcome) -> None:
        task, log = outcome.task, outcome.task.files.log
        name = _name(task)
        self.failures[name] += 1
        if self._silence(task) is None:  # a record of an earlier run, which nobody may touch again
            self.signs[name] = _Sign(_stamp(task), time.monotonic())
        ended = how_it_ended(outcome.code) if outcome.code is not None else outcome.what
        if self.failures[name] == ATTEMPTS or outcome.code == WRONG_USAGE:
            times = f"{self.failures[name]} times" if self.failures[name] > 1 else "once"
            what = f"shard {name} failed {times}, at last: {ended}: {last_line(log)}; see {log}"
            raise InputError(what, f"run it alone: {shlex.join(task.alone)}")
        attempt = self.failures[name] + 1
        self.report.note(f"shard {name}: {ended}, attempt {attempt} of {ATTEMPTS}; see {log}")
        self.waiting.append(task)

    def _show_workers(self) -> None:
        """What each running shard says, every ten seconds."""
        if self.report.quiet or time.monotonic() < self.next_lines:
            return
        self.next_lines = time.monotonic() + PLAIN_LINE_SECONDS
        for task in self.running:
            name, line = _name(task), last_line(task.files.log)
            line = line.removeprefix(f"{self.report.tool}: ")
            if line and self.shown.get(name) != line:
                self.shown[name] = line
                print_line(f"{self.report.tool}: shard {name}: {line}", clip=True)


def _stamp(task: ShardTask) -> int | None:
    """The modification time of the record, in nanoseconds of whatever clock."""
    try:
        return os.stat(task.files.record).st_mtime_ns
    except OSError:
        return None


def _read_record(task: ShardTask) -> ShardRecord | None:
    """The record; None where it cannot be read now, as while a server replaces it."""
    try:
        return read_record(task.files.record)
    except InputError:
        return None


def _name(task: ShardTask) -> str:
    return f"{task.shard.index}/{task.shard.count}"
