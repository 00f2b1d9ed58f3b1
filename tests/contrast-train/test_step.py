"""The kernels of a step: packed attention, dropout in blocks, gradients by row, kept activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gradients import batch as toy_batch
from torch import Tensor

from contrast_train import losses
from contrast_train.training import row_gradients
from contrast_train.training.micro_batches import pack_texts, split_micro_batches
from contrast_train.training.objective import ContrastObjective, EmbeddingSettings
from fletching import container
from fletching.encode import model as models
from fletching.train import hardware, packed_attention
from fletching.train.block_dropout import BlockDropout, keep_mask, replace_dropout
from fletching.train.packed_attention import PackedAttention, split_blocks

pytestmark = pytest.mark.slow  # as a whole: torch and small models

Batch = dict[str, Tensor]


@pytest.fixture
def bert(model: str) -> Any:
    """bert(dropout): a small one in float64, which takes packed batches, and its first position."""
    folder = model

    def load(dropout: float = 0.0) -> tuple[Any, int]:
        model = models.load(folder).double().train()
        hardware.set_dropout(model, dropout)
        replace_dropout(model)
        first_position = packed_attention.prepare(model)
        assert first_position is not None
        return model, first_position

    return load


def step(model: Any, batch: Batch, **settings: Any) -> tuple[float, Tensor]:
    """The loss and the gradient of all parameters."""
    model.zero_grad()
    torch.manual_seed(5)
    objective = ContrastObjective(model, losses.infonce, EmbeddingSettings(**settings))
    value = objective([batch])
    value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return value.item(), torch.cat([each.flatten() for each in gradients])


def reference(states: list[Tensor], lengths: list[int], factors: Tensor, dropout: float) -> Tensor:
    """softmax(Q K^T) V in each text, by its formula. factors: the mask of each score, in order."""
    outputs, start, seen = [], 0, 0
    for length in lengths:
        query, key, value = (
            each[start : start + length].transpose(0, 1) for each in states
        )  # (heads, length, d)
        probability = (query @ key.transpose(1, 2)).softmax(-1)
        count = probability.numel()
        kept = factors[seen : seen + count].view_as(probability) / (1 - dropout)
        outputs.append(((probability * kept) @ value).transpose(0, 1))
        start, seen = start + length, seen + count
    return torch.cat(outputs)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_packed_attention_and_its_gradient_are_the_formula(dropout: float) -> None:
    gen = torch.Generator().manual_seed(0)
    runs, lengths = [(2, 5), (1, 3), (1, 1)], [5, 5, 3, 1]
    states = [
        torch.randn(sum(lengths), 2, 4, generator=gen, dtype=torch.float64).requires_grad_()
        for _ in range(3)
    ]
    torch.manual_seed(1)
    factors = keep_mask(sum(2 * length**2 for length in lengths), dropout)
    expected = reference(states, lengths, factors.double(), dropout)
    torch.manual_seed(1)
    output = PackedAttention.apply(*states, split_blocks(runs, heads=2), dropout)
    assert torch.allclose(output, expected, atol=1e-12)
    slope = torch.randn(output.shape, generator=gen, dtype=torch.float64)
    for got, right in zip(
        torch.autograd.grad(output, states, slope), torch.autograd.grad(expected, states, slope)
    ):
        assert torch.allclose(got, right, atol=1e-12)


def test_packed_and_padded_batches_have_one_gradient(bert: Any) -> None:
    model, first_position = bert()
    batch = toy_batch(3, 6)
    padded = step(model, batch, batch_tokens=10**6)
    for tokens in (10**6, 30):
        value, gradient = step(model, batch, batch_tokens=tokens, first_position=first_position)
        assert value == pytest.approx(padded[0], rel=1e-9)
        assert (gradient - padded[1]).norm() <= 1e-8 * padded[1].norm()


def test_kept_and_recomputed_activations_give_the_same_bits(bert: Any) -> None:
    model, first_position = bert(dropout=0.2)
    settings = {"batch_tokens": 40, "first_position": first_position}
    first, *others = (
        step(model.float(), toy_batch(4, 6), keep_tokens=tokens, **settings)
        for tokens in (0, 90, 10**6)
    )
    for other in others:
        assert other[0] == first[0]
        assert torch.equal(other[1], first[1])


def test_gradients_by_row_are_those_of_the_whole_table(
    bert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, first_position = bert()
    settings = {"batch_tokens": 40, "first_position": first_position}
    dense = step(model, toy_batch(4, 6), **settings)
    monkeypatch.setattr(row_gradients, "SMALLEST", 100)
    by_row = step(model, toy_batch(4, 6), row_gradients=True, **settings)
    assert by_row[0] == dense[0]
    assert (by_row[1] - dense[1]).norm() <= 1e-12 * dense[1].norm()


def test_dropout_keeps_its_share_and_follows_the_seed() -> None:
    layer = BlockDropout(0.1)
    states = torch.ones(1000, 301, requires_grad=True)
    torch.manual_seed(7)
    dropped = layer(states)
    dropped.sum().backward()
    assert torch.equal(dropped, states.grad)  # the same activations are dropped both ways
    kept = dropped[dropped > 0]
    assert torch.allclose(kept, torch.tensor(1 / 0.9))
    assert len(kept) / dropped.numel() == pytest.approx(0.9, abs=0.002)
    torch.manual_seed(7)
    assert torch.equal(layer(states), dropped)
    assert not torch.equal(layer(states), dropped)
    assert torch.equal(layer.eval()(states), states)


def test_packed_texts_are_cut_by_their_sum_and_filled_at_the_end() -> None:
    lengths = torch.tensor([2, 5, 3, 5])
    assert [part.tolist() for part in split_micro_batches(lengths, 10, packed=True)] == [
        [1, 3],
        [2, 0],
    ]
    packed = pack_texts(
        torch.arange(15), lengths, torch.tensor([2, 0]), first_position=1, fill_to=8
    )
    assert packed["input_ids"].tolist() == [[7, 8, 9, 0, 1, 0, 0, 0]]
    assert packed["position_ids"].tolist() == [[1, 2, 3, 1, 2, 1, 1, 1]]
    assert packed["cu_seq_lens_q"].tolist() == [0, 3, 5, 8]
    assert packed["runs"] == [(1, 3), (1, 2), (1, 3)]


def test_free_memory_is_what_machine_and_container_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000000 kB\nMemAvailable: 5000000 kB\n")
    monkeypatch.setattr(hardware, "MEMINFO", meminfo)
    (tmp_path / "membership").write_text("0::/\n")
    monkeypatch.setattr(container, "CGROUP", tmp_path)
    monkeypatch.setattr(container, "MEMBERSHIP", tmp_path / "membership")
    device = torch.device("cpu")
    assert hardware.free_gigabytes(device) == pytest.approx(5.12)
    for name, content in {
        "memory.max": "3000000000",
        "memory.current": "2500000000",
        "memory.stat": "anon 7\ninactive_file 500000000\n",
    }.items():
        (tmp_path / name).write_text(content)
    assert hardware.free_gigabytes(device) == pytest.approx(1.0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert hardware.free_gigabytes(device) == pytest.approx(0.25)
    meminfo.unlink()
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.free_gigabytes(device) == pytest.approx(2**29 / 4e9)
