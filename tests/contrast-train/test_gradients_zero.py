"""The averaged gradient of a global batch under DeepSpeed's ZeRO is that of one process and one pass.

Each loss meets each stage on two ranks; bench/gradients.py runs the whole matrix.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import gradients
import pytest
from conftest import built_once
from gradients import LOSSES, ZERO, Case

pytestmark = pytest.mark.slow
SPLITS = [(1, 0), (16, 0), (40, 90), (10**6, 0)]  # (tokens of a micro-batch, tokens kept)


def cover() -> list[Case]:
    """Micro-batch sizes, accumulation and rows take turns."""
    cases = []
    for number, (stage, loss) in enumerate(itertools.product(ZERO, LOSSES)):
        batch_tokens, keep = SPLITS[number % len(SPLITS)]
        cases.append(
            Case(
                loss=loss,
                wrapper=stage,
                ranks=2,
                batch_tokens=batch_tokens,
                keep=keep,
                accumulate=1 + number % 3 // 2,
                rows=(9, 2)[number % 7 == 4],
            )
        )
    return cases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_once(tmp_path_factory, "zero", lambda to: gradients.gather(cover(), to))


@pytest.mark.parametrize("case", cover(), ids=lambda case: "-".join(map(str, case)))
def test_the_gradient_is_that_of_one_process_and_one_pass(case: Case, folder: Path) -> None:
    gradient, weights = gradients.errors(case, folder)
    assert gradient <= 1e-5
    assert weights <= 1e-5


def test_the_cover_leaves_no_pair_out() -> None:
    for split in SPLITS:
        assert {case.wrapper for case in cover() if (case.batch_tokens, case.keep) == split} == set(
            ZERO
        )
    assert {(case.accumulate, case.wrapper) for case in cover()} >= set(
        itertools.product((1, 2), ZERO)
    )
    assert {(case.rows, case.wrapper) for case in cover()} >= set(itertools.product((2, 9), ZERO))
