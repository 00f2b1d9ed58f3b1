"""The command under torchrun: the model and the log of one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bare_models
import pytest
from conftest import SUBJECTS
from several import plain
from suite import call_ranks

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


@pytest.mark.slow
def test_processes_train_the_model_of_one(run: Any, write: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    texts = write(
        tmp_path / "texts.jsonl",
        [{"id": name, "text": answer} for name, (_, answer) in SUBJECTS.items()],
    )
    model = bare_models.build(tmp_path / "decoder", "llama", head=True)
    program = [texts, "--model", model, "--eval", texts, "--lora-dropout", "0", "--steps", "3"]
    program += [
        "--length",
        "64",
        "--batch",
        "5",
        "--batch-tokens",
        "64",
        "--lr",
        "1e-3",
        "--dtype",
        "float32",
    ]
    shared = tmp_path / "zero.json"  # the model is so small that ZeRO-3 would leave it whole
    shared.write_text(
        '{"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}'
    )
    runs: dict[str, list[Any]] = {
        "one": [],
        "ddp": [],
        "fsdp": ["--fsdp"],
        "zero": ["--deepspeed", shared],
    }
    logs = []
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        str(Path(sys.executable).parent / "mntp"),
    ]
    for out, argv in runs.items():
        ranks = 1 if out == "one" else 2
        words = [*program, *argv, "-o", str(tmp_path / out)]
        done = (
            run([*torchrun, *words], env={"OMP_NUM_THREADS": "1"})
            if out == "ddp"
            else call_ranks(ranks, ["mntp", *words])
        )
        assert done.rc == 0 and done.out == b"", done.err
        logs.append(plain(done.err, "mntp"))
    assert logs == [logs[0]] * len(runs)
    one, *others = (load_file(tmp_path / name / "model.safetensors") for name in runs)
    for other in others:
        assert max(float((tensor - other[name]).abs().max()) for name, tensor in one.items()) < 1e-5
