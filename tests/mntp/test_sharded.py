"""The gradient of a step over two real processes, by DDP and by FSDP2, is that of one process."""

from __future__ import annotations

from pathlib import Path

import mntp_steps
import pytest
import torch
from mntp_steps import batch, flat, objective
from suite import FORKS

from mntp.trainer import backward

pytestmark = pytest.mark.slow

CASES = [
    (kind, wrapper, budget)
    for kind in ("full", "lora")
    for wrapper in ("ddp", "fsdp")
    for budget in (1, 20)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gradients")
    ranks = [
        FORKS.Process(target=mntp_steps.one_rank, args=(rank, 2, str(folder), CASES))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
        assert process.exitcode == 0
    return folder


@pytest.mark.parametrize(("kind", "wrapper", "budget"), CASES)
def test_the_gradient_is_that_of_one_process(
    kind: str, wrapper: str, budget: int, folder: Path
) -> None:
    one = objective(kind)
    backward(one, one, batch(packed=False), budget=10**6, device=torch.device("cpu"))
    expected = flat(one)
    assert expected.norm() > 1e-3
    for rank in range(2):
        gradient = torch.load(folder / f"{kind}-{wrapper}-{budget}-{rank}.pt")
        assert (gradient - expected).norm() < 1e-6 * expected.norm()
