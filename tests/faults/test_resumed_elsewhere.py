"""A run that resumes on a machine where `--dtype auto` means another number type."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from suite import COMMANDS, rows_for

from fletching.errors import InputError
from fletching.train.run_dir import RunDir

pytestmark = pytest.mark.slow  # as a whole: trains models


def stop(self: RunDir, built: str) -> NoReturn:
    """In place of publishing: the run ends as if it were killed, with its checkpoint."""
    raise InputError("stopped", "")


@pytest.mark.parametrize("name", ["distill", "mntp"])
def test_another_number_type_is_refused(
    name: str, invoke: Any, model: str, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fletching.encode.instruction_set import multiplies_bf16

    command = COMMANDS[name]
    rows = write(tmp_path / "in.parquet", rows_for(command))
    words = command.argv(rows, model, tmp_path / "out", "--save-every", 1, "--device", "cpu")
    words[words.index("--steps") + 1] = "2"  # one checkpoint before the end
    main = importlib.import_module(f"{command.module}.cli").main
    monkeypatch.setattr(RunDir, "publish", stop)
    assert "stopped" in invoke(main, *words[1:]).err
    has_units = multiplies_bf16()
    manifest = json.loads((tmp_path / "out.run" / "manifest.json").read_text())
    assert manifest["dtype"] == ("bfloat16" if has_units else "float32")
    monkeypatch.setattr("fletching.encode.model.multiplies_bf16", lambda: not has_units)
    done = invoke(main, *words[1:])
    assert done.rc == 1
    assert "out.run holds a run of other data or options: dtype was" in done.err
    assert "bfloat16" in done.err
