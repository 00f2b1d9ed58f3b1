"""Models and calls for the tests of mteb-eval."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # two layers of 32 dimensions gain nothing from threads
# mteb's own cache folder, which one test fills on purpose, must not be the user's. mteb reads it when imported.
os.environ.setdefault(
    "MTEB_CACHE", str(Path(os.environ.get("TMPDIR", "/tmp")) / f"mteb-cache-of-tests-{os.getuid()}")
)


@pytest.fixture(scope="session")
def destroyed(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model with all weights drawn anew: same shape, same names, no sense."""
    import torch
    from sentence_transformers import SentenceTransformer

    copy = SentenceTransformer(model, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for weights in copy.parameters():
            torch.nn.init.normal_(weights)
    folder = tmp_path_factory.mktemp("models") / "destroyed"
    copy.save(str(folder), create_model_card=False)
    return str(folder)


@pytest.fixture
def evaluate(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    """evaluate("model", "--examples", path, ...): the command in this process, in a folder of its own."""
    from mteb_eval.cli import main

    monkeypatch.chdir(tmp_path)
    return lambda *argv, stdin=b"": invoke(main, *argv, stdin=stdin)


@pytest.fixture
def measures() -> Callable[[Any], dict[tuple[str, str, str], dict[str, Any]]]:
    """The rows of a JSONL of measures by (run, task, name)."""

    def read(path: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
        rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
        return {(row["run"], row["task"], row["name"]): row for row in rows}

    return read
