"""Faults of the system within one forked command: the n-th call that changes a file is where it strikes.

`Injector` wraps what a Python program opens, writes, syncs, renames and removes. Each such call on a
path below one folder is a point; at its number the process is killed, gets a signal, or the call
fails. What libraries write in native code is no point: kills at random moments and limits meet it.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import importlib.metadata
import io
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

WRITE_MODES = frozenset("wxa+")
OPEN_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Calls that go on to fail once the disk is full or the file system is read-only.
NEED_SPACE = frozenset({"open", "write", "mkdir", "fsync"})
NEED_RIGHTS = frozenset({"open", "mkdir", "rename", "replace", "unlink", "rmdir", "ftruncate"})
# Calls that a bad sector fails, once.
NEED_DISK = frozenset({"open", "write", "fsync", "replace", "rename", "mkdir", "ftruncate"})
EXIT_OF_FAILED_FLUSH = 120  # Python's own


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong in a process, and when.

    point: the number of the call where it happens, from 1; 0 is never. kill: a signal, sent to
    itself. error: an errno. lasts: do later calls of that kind fail too? limits: resources by
    name. closed: descriptors that are closed at the start; full: those that lead to /dev/full.
    clock: seconds by which the clock jumps back at the point.
    """

    point: int = 0
    kill: int = 0
    error: int = 0
    lasts: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    closed: tuple[int, ...] = ()
    full: tuple[int, ...] = ()
    clock: float = 0.0

    @property
    def failing_calls(self) -> frozenset[str]:
        return {errno.ENOSPC: NEED_SPACE, errno.EROFS: NEED_RIGHTS}.get(self.error, NEED_DISK)


class Injector:
    """Counts the points of this process below `folder`, and strikes at one."""

    def __init__(self, fault: Fault, folder: str) -> None:
        self.fault, self.folder = fault, folder + os.sep
        self.points = 0
        self.struck = False
        self.open = io.open

    def install(self) -> None:
        """Wrap the calls of this process. There is no way back."""
        for name in ("fsync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir"):
            setattr(os, name, self._wrapped(getattr(os, name), name.replace("remove", "unlink")))
        os.ftruncate = self._wrapped(os.ftruncate, "ftruncate")
        os.write = self._wrapped_write(os.write)
        os.open = self._wrapped_open(os.open)
        builtins.open = io.open = self._open_file  # type: ignore[assignment]
        fcntl.flock = self._wrapped(fcntl.flock, "flock")

    def at(self, call: str) -> bool:
        """One point; True where the call is to fail."""
        self.points += 1
        fault = self.fault
        if self.points == fault.point:
            self.struck = True
            if fault.kill:
                os.kill(os.getpid(), fault.kill)
            if fault.clock:
                _turn_clock_back(fault.clock)
        if not (self.struck and fault.error and call in fault.failing_calls):
            return False
        self.struck = fault.lasts
        return True

    def check(self, call: str, path: object) -> None:
        """One point; raises OSError where the call is to fail."""
        if self.at(call):
            raise OSError(self.fault.error, os.strerror(self.fault.error), str(path))

    def concerns(self, target: Any) -> bool:
        """Is this path or descriptor below the folder?"""
        try:
            if isinstance(target, int) or hasattr(target, "fileno"):
                number = target if isinstance(target, int) else target.fileno()
                path = os.readlink(f"/proc/self/fd/{number}")
            else:
                path = os.path.abspath(os.fsdecode(target))
        except (OSError, TypeError, ValueError):
            return False
        return path.startswith(self.folder)

    def _wrapped(self, real: Callable[..., Any], call: str) -> Callable[..., Any]:
        def wrapped(target: Any, *rest: Any, **settings: Any) -> Any:
            if settings.get("dir_fd") is not None or self.concerns(target):
                self.check(call, target)
            return real(target, *rest, **settings)

        return wrapped

    def _wrapped_write(self, real: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def write(number: int, data: Any) -> int:
            if (
                number > 2
                and self.concerns(number)
                and self._fails_in_the_middle(data, real, number)
            ):
                raise OSError(self.fault.error, os.strerror(self.fault.error))
            return real(number, data)

        return write

    def _fails_in_the_middle(self, data: Any, write: Callable[..., int], *where: int) -> bool:
        """Does a write fail, or end the process? Half of its bytes are written then."""
        strikes = self.points + 1 == self.fault.point
        half = bytes(data)[: len(data) // 2]
        if strikes and self.fault.kill == signal.SIGKILL:
            write(*where, half)
        if not self.at("write"):
            return False
        if self.fault.error == errno.ENOSPC and strikes:
            write(*where, half)
        return True

    def _wrapped_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def open_descriptor(path: Any, flags: int, *rest: Any, **settings: Any) -> int:
            if flags & OPEN_FLAGS and self.concerns(path):
                self.check("open", path)
            return real(path, flags, *rest, **settings)

        return open_descriptor

    def _open_file(
        self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **settings: Any
    ) -> Any:
        writes = not WRITE_MODES.isdisjoint(mode)
        plain = "+" not in mode and buffering != 0 and "closefd" not in settings and len(rest) < 4
        if not (writes and self.concerns(file)):
            return self.open(file, mode, buffering, *rest, **settings)
        if "opener" not in settings:  # which opens by os.open
            self.check("open", file)
        if not plain:
            return self.open(file, mode, buffering, *rest, **settings)
        raw = TracedFile(self, file, mode.translate({98: None, 116: None}), settings.get("opener"))
        buffer = io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        settings.pop("opener", None)
        return io.TextIOWrapper(buffer, *rest, **settings)


class TracedFile(io.FileIO):
    """A file whose writes are points."""

    def __init__(self, injector: Injector, file: Any, mode: str, opener: Any) -> None:
        super().__init__(file, mode, opener=opener)
        self.injector = injector

    def write(self, data: Any) -> int:
        if self.injector._fails_in_the_middle(data, super().write):
            raise OSError(self.injector.fault.error, os.strerror(self.injector.fault.error))
        return super().write(data)


def _turn_clock_back(seconds: float) -> None:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() - seconds
    time.time_ns = lambda: now_ns() - int(seconds * 1e9)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command to run in a forked process. streams: paths of stdin, stdout, stderr."""

    argv: Sequence[str]
    folder: str
    streams: tuple[str, str, str]
    environment: dict[str, str]
    fault: Fault
    points_file: str  # gets the number of points at the end


def run_forked(launch: Launch) -> None:
    """What the installed script does, under a fault; the process ends here."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _connect(launch)
    with open(launch.points_file, "w") as file:
        file.write("0")  # it has begun
    os.environ.clear()
    os.environ.update(launch.environment)
    os.chdir(launch.folder)
    tempfile.tempdir = None  # the server that forks has asked for it
    for name, value in launch.fault.limits.items():
        kind = getattr(resource, name)
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    injector = Injector(launch.fault, launch.folder)
    injector.install()
    leave = os._exit

    def count_and_leave(code: int) -> None:  # trainers end by os._exit too
        with injector.open(launch.points_file, "w") as file:
            file.write(str(injector.points))
        leave(code)

    os._exit = count_and_leave  # type: ignore[assignment]
    sys.argv = list(launch.argv)
    [entry] = importlib.metadata.entry_points(group="console_scripts", name=launch.argv[0])
    code = _exit_code(entry.load())
    os._exit(code)


def _connect(launch: Launch) -> None:
    """Standard streams as the shell gives them to a new process."""
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND)
    for number, (path, access) in enumerate(zip(launch.streams, flags)):
        opened = os.open("/dev/full" if number in launch.fault.full else path, access)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False, encoding="utf-8")
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", buffering=1)
    for number in launch.fault.closed:
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
        os.close(number)


def _exit_code(main: Callable[[], int | None]) -> int:
    """The exit code as Python gives it: of `main`, or of streams that cannot be flushed."""
    try:
        code = main() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        code = EXIT_OF_FAILED_FLUSH
    return code
