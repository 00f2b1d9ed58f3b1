"""Commands of which shards are run, as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import environment

LINE = ["texts2vectors", "corpus.jsonl", "--vectors", "v.jsonl"]


def start(line: list[str], folder: Path, **env: str) -> subprocess.Popen[str]:
    """The installed command as a process of its own, stderr in a pipe."""
    program = Path(sys.executable).with_name(line[0])
    program = program if program.exists() else Path(line[0])
    return subprocess.Popen(
        [str(program), *line[1:]],
        cwd=folder,
        env=environment(**{"OMP_NUM_THREADS": "1", **env}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(line: list[str], folder: Path, **env: str) -> Any:
    """(exit code, stdout, stderr) of a command."""
    process = start(line, folder, **env)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
