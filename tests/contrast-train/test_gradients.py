"""The averaged gradient of a global batch is that of one process and one pass, on 1, 2 and 4 ranks, by DDP and FSDP2.

Here each value of every factor meets each loss and each number of ranks; bench/gradients.py runs the whole matrix.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import gradients
import pytest
from conftest import built_once
from gradients import LOSSES, Case

pytestmark = pytest.mark.slow
SPLITS = [(1, 0), (16, 0), (40, 90), (10**6, 0)]  # (tokens of a micro-batch, tokens kept)


def pairwise() -> list[Case]:
    """Each loss with each (wrapper, ranks); micro-batch sizes, accumulation and rows take turns."""
    groups = [("none", 1), ("ddp", 2), ("fsdp", 2), ("ddp", 4), ("fsdp", 4)]
    cases = []
    for number, (loss, (wrapper, ranks)) in enumerate(itertools.product(LOSSES, groups)):
        batch_tokens, keep = SPLITS[number % len(SPLITS)]
        cases.append(
            Case(
                loss=loss,
                wrapper=wrapper,
                ranks=ranks,
                batch_tokens=batch_tokens,
                keep=keep,
                accumulate=1 + number % 3 // 2,
                rows=(9, 2)[number % 7 == 4],
            )
        )
    return cases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_once(tmp_path_factory, "gradients", lambda to: gradients.gather(pairwise(), to))


@pytest.mark.parametrize("case", pairwise(), ids=lambda case: "-".join(map(str, case)))
def test_the_gradient_is_that_of_one_process_and_one_pass(case: Case, folder: Path) -> None:
    gradient, weights = gradients.errors(case, folder)
    assert gradient <= 1e-5
    assert weights <= 1e-5


def test_the_cover_leaves_no_pair_out() -> None:
    cases = pairwise()
    for split in SPLITS:
        assert {case.ranks for case in cases if (case.batch_tokens, case.keep) == split} == {
            1,
            2,
            4,
        }
    assert {(case.loss, case.wrapper) for case in cases} == set(
        itertools.product(LOSSES, ("none", "ddp", "fsdp"))
    )
    assert {(case.accumulate, case.wrapper) for case in cases} >= set(
        itertools.product((1, 2), ("ddp", "fsdp"))
    )
