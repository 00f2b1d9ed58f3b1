"""Runs of the command in one process and in several."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from suite import Running, call_ranks

FAST = (
    "--batch",
    "5",
    "--batch-tokens",
    "64",
    "--lr",
    "1e-3",
    "--dtype",
    "float32",
    "--activations",
    "0",
)


@pytest.fixture
def data(tmp_path: Path, write: Any, examples: list[dict[str, Any]]) -> str:
    return write(
        tmp_path / "train.parquet",
        [row | {"neg": [examples[i - 1]["pos"][0]]} for i, row in enumerate(examples)],
    )


@pytest.fixture
def command(data: str, model: str, tmp_path: Path) -> Any:
    """command(ranks, "out", *argv): the words of a run in so many processes."""

    def command(ranks: int, out: str, *argv: Any, rows: str = data) -> list[str]:
        launcher = (
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
            if ranks > 1
            else []
        )
        program = str(Path(sys.executable).parent / "contrast-train")
        return [
            *launcher,
            program,
            rows,
            "--model",
            model,
            "-o",
            str(tmp_path / out),
            *FAST,
            *map(str, argv),
        ]

    return command


@pytest.fixture
def forked(command: Any) -> Any:
    """forked(2, "out", *argv): as `command`, run, but each rank is forked from a process that has torch."""
    return lambda ranks, out, *argv, **how: call_ranks(
        ranks, ["contrast-train", *command(1, out, *argv)[1:]], **how
    )


@pytest.fixture
def copied(forked: Any, tmp_path: Path) -> Any:
    """copied(ranks, "out", *argv): a whole run, and "out-copy.run", as a kill right after checkpoint 2 would leave it."""

    def copied(ranks: int, out: str, *argv: Any) -> Ran:
        folder, copy = tmp_path / f"{out}.run", tmp_path / f"{out}-copy.run"

        def watch(running: list[Running]) -> None:
            while running[0].process.is_alive() and not (folder / "checkpoint-2").exists():
                time.sleep(0.01)
            shutil.copytree(folder / "checkpoint-2", copy / "checkpoint-2")
            for name in ("manifest.json", "measures.jsonl"):
                shutil.copy(folder / name, copy / name)

        return forked(ranks, out, *argv, "--save-every", 2, "--keep-checkpoints", 99, watch=watch)

    return copied
