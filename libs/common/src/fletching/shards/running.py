"""One shard as a process: its output, its log and its record, whoever started it."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fletching.errors import InputError, TerminationSignal, UsageError
from fletching.options import Shard
from fletching.shards.record import (
    ATTEMPT,
    DONE,
    FAILED,
    HEARTBEAT,
    RUNNING,
    InputStates,
    ShardFiles,
    ShardRecord,
    input_states,
    is_alive,
    read_record,
)
from fletching.shards.words import shard_of, words_of_all

PATIENCE = 10.0  # seconds from SIGTERM to SIGKILL
LOOK = 0.2  # seconds between two looks at a process
# The kernel ends the tool when what started it is killed. Only Linux has such a signal.
OUTLIVES_NOBODY = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
)
# A tool that was started by `python -m` or inside another process is beside its Python.
BESIDE = os.path.dirname(sys.executable)
OTHER_FOLDER = "name another folder, or remove this one with what is done in it"


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to run. words: the command with its shard and without -o."""

    folder: str
    words: list[str]
    cwd: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def shard(self) -> Shard:
        """The shard that the words name."""
        return shard_of(self.words)[0]

    @property
    def files(self) -> ShardFiles:
        """Where its files are."""
        return ShardFiles(self.folder, self.shard)

    @property
    def alone(self) -> list[str]:
        """The command to run it by hand."""
        return [*self.words, "-o", self.files.output]


class ShardStoppedError(Exception):
    """The engine was stopped while the shard ran."""


def check_output_is_left_to_the_folder(words: Sequence[str]) -> None:
    """Raise UsageError for a command that names its output."""
    for word in words:
        if word in ("-o", "--output") or word.startswith(("-o=", "--output=")):
            raise UsageError(
                f"{word} names an output, and the folder of the shards does",
                "leave it out: the file is DIR/00000-of-00016.parquet",
            )


def check_is_of_this_run(task: ShardTask, inputs: InputStates) -> None:
    """Raise InputError where the files of this shard are of another command or another input."""
    files = task.files
    record = read_record(files.record)
    if record is not None and os.path.exists(files.output):
        _compare_run(files, record, task, inputs=inputs)


def check_fits_with_others(task: ShardTask, inputs: InputStates) -> None:
    """Raise InputError where the first shard that is done here is of another run."""
    for path in sorted(glob.glob(os.path.join(glob.escape(task.folder), "*.json"))):
        files = ShardFiles.of_record(path)
        record = None if files is None else read_record(path)
        if files is None or record is None or not os.path.exists(files.output):
            continue
        if files.shard.count != task.shard.count:
            what = f"{path} is of {files.shard.count} shards, and this is one of"
            raise InputError(f"{what} {task.shard.count}", OTHER_FOLDER)
        _compare_run(files, record, task, inputs=inputs)
        return


def _compare_run(
    files: ShardFiles, record: ShardRecord, task: ShardTask, *, inputs: InputStates
) -> None:
    if words_of_all(record.command) != words_of_all(task.words):
        was = " ".join(record.command)
        raise InputError(f"{files.record} is of another command: {was}", OTHER_FOLDER)
    if record.inputs != inputs:
        name = changed_input(record.inputs, inputs)
        what = f"{files.output} was made before {name} was changed"
        raise InputError(what, OTHER_FOLDER)


def changed_input(earlier: InputStates, later: InputStates) -> str:
    """The first input that is not what it was; "" where all are."""
    names = sorted({*earlier, *later})
    return next((name for name in names if earlier.get(name) != later.get(name)), "")


def run_shard(task: ShardTask, stop: threading.Event | None = None) -> int:
    """Run the command of a shard unless its output is there: the exit code, 0 then.

    Raises InputError where the folder holds another run, or another process is at it.
    """
    files = task.files
    os.makedirs(task.folder, exist_ok=True)
    inputs = input_states(task.words)
    check_is_of_this_run(task, inputs)
    if os.path.exists(files.output):
        return 0
    check_fits_with_others(task, inputs)
    earlier = read_record(files.record)
    if earlier is not None and is_alive(files.record, earlier):
        what = f"{files.stem} is run by process {earlier.pid} of {earlier.host}"
        raise InputError(what, "wait for it, or end it")
    is_again = earlier is not None and earlier.command == task.words
    attempt = earlier.attempt + 1 if earlier is not None and is_again else 1
    return _ShardProcess(task, inputs, attempt=attempt, stop=stop or threading.Event()).run()


class _ShardProcess:
    """The process of one attempt at a shard."""

    def __init__(
        self, task: ShardTask, inputs: InputStates, *, attempt: int, stop: threading.Event
    ) -> None:
        self.task, self.inputs, self.attempt, self.stop = task, inputs, attempt, stop
        self.started = time.monotonic()

    def run(self) -> int:
        """Start the process, and leave its record when it has ended."""
        files = self.task.files
        side = [word for word in self.task.words if word.startswith(files.folder + os.sep)]
        for path in side:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(files.log, "ab") as log:
            log.write(f"{ATTEMPT} {self.attempt}, {socket.gethostname()}\n".encode())
            log.flush()
            process = self._start(log.fileno())
            try:  # from here on a signal leaves a record of the end
                self._record(RUNNING, process.pid, None)
                code = self._wait(process)
            except BaseException as failure:
                _end(process)
                code = -signal.SIGTERM
                if isinstance(failure, TerminationSignal | KeyboardInterrupt | ShardStoppedError):
                    log.write(b"stopped\n")
                raise
            finally:
                if process.returncode is not None:
                    code = process.returncode
                if code < 0:
                    log.write(f"ended by signal {-code}\n".encode())
                state = DONE if code == 0 and os.path.exists(files.output) else FAILED
                self._record(state, process.pid, code)
        return code

    def _start(self, log: int) -> subprocess.Popen[bytes]:
        files = self.task.files
        program = _program(self.task.words[0])
        words = [program, *self.task.words[1:], "-o", files.output]
        words += ["--json-summary", files.summary]
        if sys.platform == "linux":
            words = [sys.executable, "-IS", "-c", OUTLIVES_NOBODY, *words]
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.task.cwd or None,
            env={**os.environ, **self.task.env},
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code; until then, signs of life."""
        next_sign = time.monotonic() + HEARTBEAT
        while True:
            try:
                return process.wait(LOOK)
            except subprocess.TimeoutExpired:
                pass
            if self.stop.is_set():
                raise ShardStoppedError
            if time.monotonic() > next_sign:
                next_sign = time.monotonic() + HEARTBEAT
                os.utime(self.task.files.record)

    def _record(self, state: str, pid: int, code: int | None) -> None:
        ShardRecord(
            state=state,
            command=self.task.words,
            inputs=self.inputs,
            host=socket.gethostname(),
            pid=pid,
            attempt=self.attempt,
            exit_code=code,
            seconds=round(time.monotonic() - self.started, 1),
        ).write(self.task.files.record)


def _program(name: str) -> str:
    """The path of a tool's program. Raises UsageError."""
    beside = shutil.which(os.path.join(BESIDE, name)) if os.sep not in name else None
    program = beside or shutil.which(name)
    if program is None:
        raise UsageError(f"{name!r} is no program of this machine", f"pip install fletching-{name}")
    return program


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, on which tools withdraw what they have begun to write; then SIGKILL."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
