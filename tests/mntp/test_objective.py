"""The loss against its closed form in float64, and its gradient however the step is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mntp_steps import CONFIGS, batch, flat, network

from mntp.objective import (
    NOT_PREDICTED,
    MntpObjective,
    PaddedBlocks,
    masked_count,
    micro_batches,
)
from mntp.trainer import backward


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_is_that_of_the_state_before_each_masked_token(name: str) -> None:
    """Against logits of the whole model, text by text, without padding, packing or the chosen rows."""
    model = network(name)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15, 16, 17, 0, 0, 0]])
    labels = torch.full_like(ids, NOT_PREDICTED)
    labels[0, 2], labels[0, 5], labels[1, 1] = 70, 80, 90
    texts = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, -1, -1, -1]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 0, 0]])
    blocks = PaddedBlocks(ids=ids, labels=labels, texts=texts, positions=positions)
    sums = MntpObjective(model)(blocks)

    expected = 0.0
    for text, position, token in ((ids[0, :4], 2, 70), (ids[0, 4:], 1, 80), (ids[1, :5], 1, 90)):
        logits = model(input_ids=text[None]).logits[0, position - 1]
        expected -= float(logits.log_softmax(-1)[token])
    assert float(sums.loss) == pytest.approx(expected, rel=1e-10)
    assert sums.tokens == 3


def gradient(
    step: dict[str, torch.Tensor], budget: int, monkeypatch: Any = None, ranks: int = 1
) -> torch.Tensor:
    """Of a whole step; over ranks: the mean of theirs, as DDP takes it."""
    from fletching.train.distributed import process_group

    gradients = []
    for number in range(ranks):
        model = network("llama", "sdpa")  # eager attention takes its softmax in float32
        objective = MntpObjective(model)
        if ranks > 1:
            monkeypatch.setattr(process_group, "world_size", lambda: ranks)
            monkeypatch.setattr(process_group, "rank", lambda number=number: number)
        backward(objective, objective, step, budget=budget, device=torch.device("cpu"))
        gradients.append(flat(objective))
    return torch.stack(gradients).mean(0)


def test_the_gradient_is_the_same_for_every_width_of_a_micro_batch() -> None:
    step = batch()
    whole = gradient(step, 10**6)
    assert whole.norm() > 1e-3
    for budget in (1, 20, 40):
        assert (gradient(step, budget) - whole).norm() < 1e-10 * whole.norm()


@pytest.mark.parametrize("ranks", [2, 4, 50])
def test_the_mean_gradient_of_ranks_is_that_of_one_process(ranks: int, monkeypatch: Any) -> None:
    """Ranks with other numbers of masked tokens, and ranks without a block."""
    step = batch(packed=False)
    whole = gradient(step, 10**6)
    assert (gradient(step, 16, monkeypatch, ranks) - whole).norm() < 1e-7 * whole.norm()


def test_packing_changes_neither_loss_nor_gradient() -> None:
    assert masked_count(batch(True)) == masked_count(batch(False))
    one, other = gradient(batch(True), 64), gradient(batch(False), 64)
    assert (one - other).norm() < 1e-10 * one.norm()


def test_every_rank_makes_the_same_number_of_passes_and_no_block_is_lost() -> None:
    step = batch(packed=False)
    for ranks in (2, 3, 50):
        shares = [
            micro_batches(step, 20, pad_id=0, rank=number, ranks=ranks) for number in range(ranks)
        ]
        assert len({len(parts) for parts in shares}) == 1
        predicted = sum(
            int((part.labels != NOT_PREDICTED).sum()) for parts in shares for part in parts
        )
        assert predicted == masked_count(step)


def test_micro_batches_keep_to_their_budget_and_hold_every_token() -> None:
    step = batch()
    parts = micro_batches(step, 40, pad_id=0)
    assert all(part.ids.numel() <= 40 for part in parts)
    assert sum(int((part.texts >= 0).sum()) for part in parts) == len(step["ids"])
    assert sorted(torch.cat([part.ids[part.texts >= 0] for part in parts]).tolist()) == sorted(
        step["ids"].tolist()
    )
