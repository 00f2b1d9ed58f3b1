"""The files of one shard: its output, the log of its command, and a record of how it went.

DIR/00003-of-00016.parquet       the output; it appears when it is complete
DIR/00003-of-00016.log           stderr of all attempts
DIR/00003-of-00016.json          the record: command, process, state, exit code
DIR/00003-of-00016.summary.json  the account of its rows
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fletching.errors import InputError
from fletching.options import Shard
from fletching.shards.words import without_written
from fletching.table import atomic

RUNNING, DONE, FAILED = "running", "done", "failed"
STEM = re.compile(r"(\d{5})-of-(\d{5})")
HEARTBEAT = 5.0  # seconds between two signs of life of a running shard
SILENT = 60.0  # seconds without one after which it is lost
ATTEMPT = "--- attempt"  # the line that begins an attempt in a log
TAIL = 4096  # bytes of a log in which its last line is looked for

# Size in bytes and modification time in nanoseconds, by path.
InputStates = dict[str, list[int]]


@dataclass(frozen=True)
class ShardFiles:
    """The paths of one shard's files."""

    folder: str
    shard: Shard

    @classmethod
    def of_record(cls, path: str) -> ShardFiles | None:
        """By the path of a record; None for another file."""
        folder, name = os.path.split(path)
        match = STEM.fullmatch(name.removesuffix(".json"))
        if match is None:
            return None
        return cls(folder, Shard(index=int(match[1]), count=int(match[2])))

    @property
    def stem(self) -> str:
        """`00003-of-00016`: sorted by name, the files of a folder are in order."""
        return f"{self.shard.index:05}-of-{self.shard.count:05}"

    @property
    def output(self) -> str:
        """The rows."""
        return self._path(".parquet")

    @property
    def log(self) -> str:
        """What the command printed."""
        return self._path(".log")

    @property
    def record(self) -> str:
        """How it went."""
        return self._path(".json")

    @property
    def summary(self) -> str:
        """The account, as --json-summary writes it."""
        return self._path(".summary.json")

    def side_output(self, name: str) -> str:
        """A second output, such as rejects, in a folder of its own."""
        return os.path.join(self.folder, name, f"{self.stem}.parquet")

    def _path(self, extension: str) -> str:
        return os.path.join(self.folder, self.stem + extension)


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """How the command of a shard went, or goes.

    command: with the shard, without -o. inputs: the local files that it names, as they were.
    exit_code: minus the number of a signal; None while it runs. seconds: of the last attempt.
    """

    state: str
    command: list[str]
    inputs: InputStates
    host: str
    pid: int
    attempt: int
    exit_code: int | None = None
    seconds: float = 0.0

    def write(self, path: str) -> None:
        """Replace the record."""
        atomic.write_text(path, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def read_record(path: str) -> ShardRecord | None:
    """The record; None where there is none. Raises InputError for a file that is no record."""
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
        return ShardRecord(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{path} is no record of a shard ({error})", "remove it") from None


def is_alive(path: str, record: ShardRecord) -> bool:
    """Does the command of this record still run? On another host, its signs of life say so."""
    if record.state != RUNNING or _age(path) > SILENT:
        return False
    if record.host != socket.gethostname():
        return True
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return float("inf")


def last_line(log: str) -> str:
    """The last line of a log that says something; "" without one."""
    try:
        with open(log, "rb") as file:
            file.seek(max(os.path.getsize(log) - TAIL, 0))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    spoken = [line.strip() for line in lines if line.strip() and not line.startswith(ATTEMPT)]
    # An error ends with how to fix it; what went wrong stands above.
    while len(spoken) > 1 and spoken[-1].startswith("fix: "):
        spoken.pop()
    return spoken[-1] if spoken else ""


def input_states(words: Sequence[str]) -> InputStates:
    """Size and time of the local files and folders that a command names, to see them change."""
    states: InputStates = {}
    for word in without_written(words)[1:]:
        for part in word.split(","):
            name = part.rpartition("=")[2]
            for path in sorted(glob.glob(name)) or [name]:
                if os.path.exists(path):
                    states[path] = _state(path)
    return states


def _state(path: str) -> list[int]:
    paths = [path]
    if os.path.isdir(path):
        paths = [entry.path for entry in os.scandir(path) if entry.is_file()]
    stats = [os.stat(each) for each in paths]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    return [sum(stat.st_size for stat in stats), newest]
