"""A command in a process of its own that is there at once: forked from one that has imported the slow parts."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from conftest import environment
from suite import FORKS


class Forked:
    """synthgen with these words; stderr in a file. It can be killed like any process."""

    def __init__(self, words: list[Any], err: Path) -> None:
        self.err = err
        self.process = FORKS.Process(
            target=_child, args=([str(word) for word in words], str(err), environment())
        )
        self.process.start()
        self.pid: int = self.process.pid or 0

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 60) -> int:
        """The exit code; minus the number of the signal that killed it."""
        end = time.monotonic() + timeout
        self.process.join(timeout)
        assert self.process.exitcode is not None and time.monotonic() <= end + 1, self.told
        return self.process.exitcode

    @property
    def told(self) -> str:
        return self.err.read_text() if self.err.exists() else ""


def _child(words: list[str], err: str, env: dict[str, str]) -> None:
    from fletching_synthgen import cli

    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", buffering=1)
    os.environ.clear()
    os.environ.update(env)
    sys.exit(cli.main(words))
