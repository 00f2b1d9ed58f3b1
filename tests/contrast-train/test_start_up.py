"""What a run does before its first step: the environment of libraries, and what it does not import."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from contrast_train import cli
from fletching.train import launch


def test_kernels_that_are_kept_are_bounded_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1,024 kernels of new shapes a cache would take hundreds of megabytes."""
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    launch.set_environment()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == launch.MOST_KERNELS
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"


def test_imports_are_frozen_by_the_first_run_of_a_process_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(1))
    for frozen in (0, 9):
        monkeypatch.setattr(gc, "get_freeze_count", lambda frozen=frozen: frozen)
        launch.freeze_imports()
    assert calls == [1]


@pytest.mark.slow
def test_no_engine_is_imported_to_unwrap_a_model(
    invoke: Any,
    model: str,
    tmp_path: Path,
    write: Any,
    examples: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """accelerate's way imports DeepSpeed where it is installed."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("accelerate unwraps the model")

    monkeypatch.setattr("accelerate.accelerator.extract_model_from_parallel", refuse)
    path = write(tmp_path / "rows.jsonl", examples)
    done = invoke(cli.main, path, "--model", model, "-o", tmp_path / "out", "--steps", 1)
    assert done.rc == 0, done.err
