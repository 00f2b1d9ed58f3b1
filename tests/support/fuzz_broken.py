"""Readers with a defect each, which the suite of mutated inputs has to see."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_reader import FuzzedReader
from fuzz_rows import ROWS_OUT, rows_read

CONTENT = b"0123456789" * 10


def _lie() -> Any:
    return [int(Path("in").read_bytes() == CONTENT)]


def _crash() -> Any:
    return os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> Any:
    while True:
        pass


def _fill_memory() -> Any:
    return len(b"x" * (900 << 20)) * 0


def _fail() -> Any:
    return 1 / 0


def _broken(name: str, read: Callable[[], Any], cpu_seconds: int = 5) -> FuzzedReader:
    def program(argv: list[str]) -> int:
        is_whole = Path("in").read_bytes() == CONTENT
        Path(ROWS_OUT).write_text(json.dumps([1] if is_whole else read()))
        return 0

    return FuzzedReader(
        name=f"broken: {name}",
        line="broken in",
        program=program,
        fill=lambda folder: (folder / "in").write_bytes(CONTENT) and None,
        files={"in": ("bytes", 1)},
        output=rows_read,
        checksummed=lambda path: True,
        weight=0,
        cpu_seconds=cpu_seconds,
    )


BROKEN_READERS = [
    _broken("lie", _lie),
    _broken("crash", _crash),
    _broken("hang", _hang, cpu_seconds=1),
    _broken("memory", _fill_memory),
    _broken("traceback", _fail),
]
