"""Texts with vectors made beforehand: shards of texts2vectors then cost a start of Python each."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

from fletching.text import text_hash

TEXTS = 9000  # three units of texts2vectors
LINE = ["texts2vectors", "corpus.jsonl", "--vectors", "v.jsonl"]


@pytest.fixture(scope="session")
def shared_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    draw = random.Random(0)
    texts = [f"text {draw.randrange(TEXTS)}" for _ in range(TEXTS)]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    vectors = [
        {"text_hash": text_hash(text), "vector": [draw.gauss(0, 1) for _ in range(4)]}
        for text in dict.fromkeys(texts)
    ]
    for name, lines in (("corpus", rows), ("v", vectors)):
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(content)
    start(LINE + ["-q", "-o", "whole.parquet"], folder).wait()
    return folder


@pytest.fixture
def inputs(shared_inputs: Path, tmp_path: Path) -> Path:
    """A folder with corpus.jsonl, v.jsonl, and whole.parquet, which one run made of them."""
    for path in shared_inputs.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def start(line: list[str], folder: Path, **env: str) -> subprocess.Popen[str]:
    """The installed command as a process of its own, stderr in a pipe."""
    program = Path(sys.executable).with_name(line[0])
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
