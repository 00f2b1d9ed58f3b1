"""Several machines, feigned on this one: torchrun's own rendezvous, and a machine that is lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import environment_with_warm_commands
from several import furthest, said

pytestmark = pytest.mark.slow

# As `torchrun`, but a script, so that it starts from a process that has torch.
LAUNCHER = "from torch.distributed.run import main\n\nmain()\n"


class Node:
    """One torchrun with two processes. Its processes know their machine by a variable."""

    def __init__(self, name: str, folder: Path, endpoint: str, words: list[str]) -> None:
        (folder / "launcher.py").write_text(LAUNCHER)
        self.mark = f"FEIGNED_MACHINE={folder.name}-{name}".encode()
        self.err = folder / f"{name}.err"
        launcher = ["python", str(folder / "launcher.py"), "--nnodes", "2"]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
        with open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                [*launcher, *meeting, "--nproc-per-node", "2", "--no-python", *words],
                stdout=err,
                stderr=err,
                cwd=folder,
                env=environment_with_warm_commands(FEIGNED_MACHINE=f"{folder.name}-{name}"),
            )

    def kill(self) -> None:
        """SIGKILL to every process of this machine."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_of_node = self.mark in (folder / "environ").read_bytes().split(b"\0")
                if is_of_node:
                    os.kill(int(folder.name), signal.SIGKILL)
            except OSError:  # another user's, or gone
                continue

    @property
    def said(self) -> list[str]:
        return said(self.err.read_text("utf-8", errors="replace"))


def wait_for(what: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def test_a_run_that_loses_a_machine_ends_in_the_weights_of_one_process(
    command: Any, forked: Any, tmp_path: Path
) -> None:
    """Two machines of two processes, one of which is killed; the same command goes on with two. With dropout."""
    argv = ("--dropout", 0.1, "--steps", 8, "--save-every", 2, "--lr", 1e-4, "--seed", 5)
    cut = (
        "--batch",
        12,
        "--batch-tokens",
        8,
    )  # many micro-batches, the same for any number of ranks
    one = forked(1, "one", *argv, *cut)
    assert one.rc == 0, one.err
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = ["contrast-train", *command(1, "two", *argv, *cut)[1:]]
    first = Node("first", tmp_path, f"localhost:{port}", words)
    wait_for(lambda: is_open(port))
    second = Node("second", tmp_path, f"localhost:{port}", words)
    try:
        wait_for(lambda: (tmp_path / "two.run" / "checkpoint-2").exists())
        second.kill()
        assert first.process.wait(300) == 1
    finally:
        first.kill()
        second.kill()
    starts = first.said + second.said
    assert sum("loss infonce" in line for line in starts) == 1, starts
    assert sum("packed micro-batches of 8 tokens" in line for line in starts) == 1
    assert not (tmp_path / "two").exists()
    again = forked(2, "two", *argv, *cut)
    assert again.rc == 0, again.err
    assert re.search(r"resuming from step \d+ of 8", again.err)
    assert sum("12 in, 12 out" in line for line in said(again.err)) == 1
    assert furthest(tmp_path / "one", tmp_path / "two") < 1e-5
    assert not (tmp_path / "two.run").exists()
