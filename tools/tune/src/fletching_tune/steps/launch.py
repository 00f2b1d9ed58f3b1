"""Programs as processes: found on PATH or beside this one, ended when this one ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import BinaryIO

from fletching.errors import InputError, UsageError
from fletching_tune.steps.step import Step

PR_SET_PDEATHSIG = 1  # of Linux's prctl: a signal for the child when its parent dies
USAGE_CODE = 2


def find_program(name: str) -> str:
    """The path of a program. Raises InputError where it is not installed."""
    beside = os.path.dirname(sys.executable)
    path = shutil.which(name) or shutil.which(name, path=beside)
    if path is None:
        package = "fletching-" + name
        raise InputError(f"the program {name} is not installed", f"pip install {package}")
    return path


def launch(step: Step, log: str, *, keep_open: int) -> None:
    """Run the program of a step to its end; its stderr goes to the file `log`.

    keep_open: the descriptor of the lock, which the program holds too while it lives.

    Raises InputError with the program's own words where it fails.
    """
    program = find_program(step.program)
    with open(log, "wb") as messages, _stdout(step) as out:
        process = subprocess.Popen(
            [program, *step.argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=messages,
            pass_fds=[keep_open],
            preexec_fn=_end_with_parent,
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code:
        raise _failure(step, log, code)


@contextlib.contextmanager
def _stdout(step: Step) -> Iterator[BinaryIO]:
    path = step.stdout or os.devnull
    with open(path, "wb") as file:
        yield file


def _end_with_parent() -> None:
    """In the child, before its program starts: SIGTERM when the parent is killed."""
    with contextlib.suppress(OSError, AttributeError):  # another system than Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _failure(step: Step, log: str, code: int) -> InputError:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip() for line in file if line.strip()]
    fix = f"see {log}, or run it by hand: {step.line}"
    what = f"{step.program} ended with code {code}"
    stated = [number for number, line in enumerate(lines) if line.startswith("  fix: ")]
    if stated and stated[-1]:
        what, fix = lines[stated[-1] - 1], lines[stated[-1]].removeprefix("  fix: ")
    elif lines:
        what = f"{what}: {lines[-1]}"
    return (UsageError if code == USAGE_CODE else InputError)(what, fix)
