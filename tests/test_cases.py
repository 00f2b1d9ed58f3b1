"""Golden cases: in tests/cases/TOOL/CASE stand `cmd`, its input files, and what it has to leave behind.

`cmd` is run by bash in a copy of the folder. Then its exit code is held against `rc`, stderr against `err` (seconds
are shown as N.N), stdout against `out`, and every file that it wrote (their names begin with `out`) against the file
of that name. `{model}` in `cmd` is the tiny model of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

CASES = sorted(path.parent for path in Path(__file__).with_name("cases").glob("*/*/cmd"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_case(case: Path, run: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    line = (case / "cmd").read_text("utf-8")
    model = request.getfixturevalue("model") if "{model}" in line else ""
    written = [path for path in case.iterdir() if path.name.startswith("out")]
    given = {
        path.name
        for path in case.iterdir()
        if path not in written and path.name not in ("cmd", "err", "rc")
    }
    for name in given:
        shutil.copy(case / name, tmp_path)
    done = run(line.replace("{model}", model), cwd=tmp_path)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name not in given}
    told = re.sub(
        r"\d+\.\d s$", "N.N s", done.err.replace(model or "\0", "MODEL"), flags=re.MULTILINE
    )
    found |= {"err": told.encode(), "rc": f"{done.rc}\n".encode()} | (
        {"out": done.out} if done.out else {}
    )
    if os.environ.get("BLESS") == "1":
        for path in written:
            path.unlink()
        for name, content in found.items():
            (case / name).write_bytes(content)
    expected = {
        path.name: path.read_bytes()
        for path in case.iterdir()
        if path.name.startswith("out") or path.name in ("err", "rc")
    }
    assert found == expected, (
        f"read the difference; if it is meant: BLESS=1 pytest -k {request.node.callspec.id}"
    )
