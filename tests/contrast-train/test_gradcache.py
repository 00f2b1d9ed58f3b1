"""The gradient is the specification: micro-batches, kept activations, dropout and ranks leave it alone."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from contrast_train import losses
from contrast_train.data.collator import ContrastCollator
from contrast_train.data.dataset import TrainingExample, text_key
from contrast_train.losses import PairStructure
from contrast_train.training.micro_batches import pad_texts, split_micro_batches
from contrast_train.training.objective import ContrastObjective, EmbeddingSettings

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


class Toy(nn.Module):
    """Mean of token vectors through two layers with dropout, as a SentenceTransformer takes and gives it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.layers = nn.Sequential(
            nn.Linear(16, 32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, 12)
        )

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        mask = features["attention_mask"][..., None].to(self.tokens.weight)
        mixed = self.layers(self.tokens(features["input_ids"])) * mask
        return {"sentence_embedding": mixed.sum(1) / mask.sum(1)}


def unit_vectors(count: int, gen: torch.Generator, dimension: int = 3) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, dimension, generator=gen), dim=1)


def features(seed: int = 0, rows: int = 9) -> dict[str, Tensor]:
    gen = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 20, (rows * 3,), generator=gen)
    pairs = torch.arange(rows)[:, None].repeat(1, 2)
    hard = torch.stack([torch.arange(rows), torch.arange(rows) + rows], 1)
    return {
        "input_ids": torch.randint(1, 50, (int(lengths.sum()),), generator=gen),
        "lengths": lengths,
        "queries": torch.tensor(rows),
        "rows": torch.arange(rows),
        **PairStructure(
            positive_pairs=pairs,
            weights=torch.full((rows,), 1 / rows),
            hard_negative_pairs=hard,
            masked_pairs=torch.cat([pairs, torch.tensor([[0, min(4, 2 * rows - 1)]])]),
            scored_pairs=torch.cat([torch.cat([pairs[:, :1], each], 1) for each in (pairs, hard)]),
            scores=torch.randn(2 * rows, generator=gen),
            guide_queries=unit_vectors(rows, gen),
            guide_documents=unit_vectors(2 * rows, gen),
            teacher_queries=unit_vectors(rows, gen, dimension=12),
            teacher_documents=unit_vectors(2 * rows, gen, dimension=12),
        ).tensors(),
    }


def gradient(
    model: nn.Module, batch: dict[str, Tensor], loss: Any, **settings: int
) -> tuple[float, Tensor]:
    model.zero_grad()
    value = ContrastObjective(model, loss, EmbeddingSettings(**settings))([batch])
    value.backward()
    return value.item(), torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]


def seeded(dropout: float = 0.0) -> Toy:
    torch.manual_seed(0)
    return Toy(dropout).train()


LOSSES = {
    "infonce": losses.infonce,
    "symmetric": functools.partial(losses.infonce, symmetric=True, temperature=0.1),
    "own": functools.partial(losses.infonce, candidates="own"),
    "query-negatives": functools.partial(
        losses.infonce, query_negatives=True, similarity="dot", temperature=1.0
    ),
    "other queries": functools.partial(losses.infonce, query_negatives=True, temperature=0.1),
    "triplet": functools.partial(losses.triplet, triplet_margin=0.7),
    "kl": functools.partial(losses.kl, teacher_temperature=0.5),
    "infonce+kl": functools.partial(losses.infonce_kl, kl_weight=0.3, guide_margin=0.1),
    "margin-mse": losses.margin_mse,
    "cosent": losses.cosent,
    "angle": losses.angle,
    "gte": functools.partial(
        losses.infonce,
        directions=("query-doc", "doc-query", "query-query", "doc-doc"),
        softmax="joint",
        hardness_weight=5.0,
    ),
    "added terms": functools.partial(
        losses.with_added_terms,
        loss=losses.infonce,
        terms=[
            (losses.teacher_cosine, 0.5),
            (losses.teacher_similarities, 0.5),
            (losses.spread_out, 2.0),
        ],
    ),
    "matryoshka": functools.partial(
        losses.matryoshka, loss=losses.infonce, dims=[4, 12], weights=[1, 2]
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("batch_tokens", [1, 16, 40, 200])
@pytest.mark.parametrize("keep_tokens", [0, 90])
def test_any_micro_batch_size_gives_the_one_pass_gradient(
    name: str, batch_tokens: int, keep_tokens: int
) -> None:
    model, batch = seeded(), features()
    value, whole = gradient(model, batch, LOSSES[name], batch_tokens=10**6)
    again, parts = gradient(
        model, batch, LOSSES[name], batch_tokens=batch_tokens, keep_tokens=keep_tokens
    )
    assert again == pytest.approx(value, rel=1e-6)
    assert (parts - whole).norm() <= 1e-5 * whole.norm()


def test_the_one_pass_gradient_is_torchs_own() -> None:
    model, batch = seeded(), features()
    del batch["guide_queries"]
    _, ours = gradient(model, batch, losses.infonce, batch_tokens=10**6)
    model.zero_grad()
    ids, mask = pad_texts(batch["input_ids"], batch["lengths"], torch.arange(27), pad_id=0)
    vectors = nn.functional.normalize(
        model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"], dim=1
    )
    scores = vectors[:9] @ vectors[9:].T / 0.05
    scores[0, 4] = -torch.inf
    nn.functional.cross_entropy(scores, torch.arange(9)).backward()
    theirs = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("batch_tokens", [16, 10**6])
def test_against_fixed_documents_the_gradient_is_that_of_the_queries_alone(
    batch_tokens: int,
) -> None:
    model, batch = seeded(), features()
    del batch["guide_queries"]
    batch["lengths"] = batch["lengths"][:9]
    batch["input_ids"] = batch["input_ids"][: int(batch["lengths"].sum())]
    documents = unit_vectors(18, torch.Generator().manual_seed(1), dimension=12)
    _, ours = gradient(
        model,
        batch | {"document_vectors": documents},
        losses.infonce,
        batch_tokens=batch_tokens,
    )
    model.zero_grad()
    ids, mask = pad_texts(batch["input_ids"], batch["lengths"], torch.arange(9), pad_id=0)
    queries = nn.functional.normalize(
        model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"], dim=1
    )
    scores = queries @ documents.T / 0.05
    scores[0, 4] = -torch.inf
    nn.functional.cross_entropy(scores, torch.arange(9)).backward()
    theirs = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("batch_tokens", [16, 40])
def test_dropout_of_the_second_pass_is_that_of_the_first(batch_tokens: int) -> None:
    model, batch = seeded(dropout=0.5), features()
    torch.manual_seed(1)
    kept = gradient(model, batch, losses.infonce, batch_tokens=batch_tokens, keep_tokens=10**6)
    after_kept = torch.rand(1)
    torch.manual_seed(1)
    replayed = gradient(model, batch, losses.infonce, batch_tokens=batch_tokens, keep_tokens=0)
    assert torch.rand(1) == after_kept, (
        "the random numbers after the step do not depend on the replay"
    )
    torch.manual_seed(2)
    other = gradient(model, batch, losses.infonce, batch_tokens=batch_tokens)
    assert (replayed[1] - kept[1]).norm() <= 1e-5 * kept[1].norm()
    assert (other[1] - kept[1]).norm() > 1e-2 * kept[1].norm()


def test_simcse_is_cross_entropy_between_two_views_that_dropout_made() -> None:
    """By the collator's own batch: the reference keeps the graphs of the same micro-batches. A text that stands twice is no negative."""
    words = ["one two", "three four five six", "seven", "eight nine ten", "ONE  two", "one"]
    rows = [
        TrainingExample(
            row=i,
            query=text,
            ids={},
            known_texts=frozenset({text_key(text)}),
            known_ids=frozenset(),
        )
        for i, text in enumerate(words)
    ]
    collate = ContrastCollator(
        tokenize=lambda texts, length: [[ord(letter) % 50 for letter in text] for text in texts],
        views=True,
    )
    batch = {name.removeprefix("texts_"): tensor for name, tensor in collate(rows).items()}
    model, count = seeded(dropout=0.4), len(words)
    torch.manual_seed(1)
    value, ours = gradient(model, batch, losses.simcse, batch_tokens=40)
    model.zero_grad()
    torch.manual_seed(1)
    vectors = torch.empty(2 * count, 12)
    for part in (parts := split_micro_batches(batch["lengths"], 40)):
        ids, mask = pad_texts(batch["input_ids"], batch["lengths"], part, pad_id=0)
        vectors = vectors.index_put(
            (part,), model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
        )
    unit = nn.functional.normalize(vectors, dim=1)
    scores = unit[:count] @ unit[count:].T / 0.05
    scores[0, 4] = scores[4, 0] = -torch.inf
    loss = nn.functional.cross_entropy(scores, torch.arange(count))
    loss.backward()
    theirs = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
    assert len(parts) > 2 and (unit[:count] - unit[count:]).norm(dim=1).min() > 0.1
    assert value == pytest.approx(loss.item(), rel=1e-5)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize(
    "name",
    [
        *("symmetric", "kl", "margin-mse", "cosent", "angle", "infonce+kl", "matryoshka"),
        *("other queries", "gte", "added terms"),
    ],
)
def test_a_learned_temperature_gets_the_slope_of_the_loss(name: str) -> None:
    batch = features()
    objective = ContrastObjective(
        seeded(), LOSSES[name], EmbeddingSettings(batch_tokens=16), learned_temperature=0.2
    )
    (objective([batch]) / 2).backward()
    assert objective.log_temperature is not None
    at = [
        ContrastObjective(
            seeded(), functools.partial(LOSSES[name], temperature=0.2 * math.exp(step))
        )([batch]).item()
        for step in (-0.02, 0.02)
    ]
    assert objective.log_temperature.grad is not None
    assert objective.log_temperature.grad.item() == pytest.approx(
        (at[1] - at[0]) / 0.04 / 2, rel=2e-3
    )


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_batch_without_a_row_has_a_loss_of_0_and_a_gradient_of_0_everywhere(name: str) -> None:
    collate = ContrastCollator(tokenize=lambda texts, length: [[1] for _ in texts], views=True)
    for collator in (collate, dataclasses.replace(collate, views=False)):
        batch = {key.removeprefix("texts_"): tensor for key, tensor in collator([]).items()}
        value, slopes = gradient(seeded(), batch, LOSSES[name], batch_tokens=16)
        assert value == 0 and slopes.eq(0).all()


def test_prompts_of_different_length_stand_in_different_micro_batches() -> None:
    group = torch.tensor([0, 3, 0, 3, 5])
    parts = split_micro_batches(torch.tensor([9, 2, 30, 4, 1]), 64, group)
    assert [part.tolist() for part in parts] == [[2, 0], [3, 1], [4]]


def test_the_loss_is_scaled_as_the_trainer_scales_it() -> None:
    model, batch = seeded(), features()
    _, whole = gradient(model, batch, losses.infonce, batch_tokens=16)
    model.zero_grad()
    objective = ContrastObjective(model, losses.infonce, EmbeddingSettings(batch_tokens=16))
    (objective([batch]) / 4).backward()
    quarter = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
    assert (quarter - whole / 4).norm() <= 1e-6 * whole.norm()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 300))
def test_every_text_stands_in_one_micro_batch_within_the_budget(
    lengths: list[int], budget: int
) -> None:
    parts = split_micro_batches(torch.tensor(lengths), budget)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(lengths)))
    for part in parts:
        width = -(-max(lengths[i] for i in part.tolist()) // 8) * 8
        assert len(part) == 1 or width * len(part) <= budget


@pytest.mark.parametrize("left", [False, True])
def test_padding_keeps_the_tokens_of_each_text(left: bool) -> None:
    ids, mask = pad_texts(
        torch.arange(1, 7), torch.tensor([3, 1, 2]), torch.tensor([2, 0]), pad_id=9, left=left
    )
    assert [row[keep.bool()].tolist() for row, keep in zip(ids, mask)] == [[5, 6], [1, 2, 3]]
    assert mask[:, -1 if left else 0].all()
    assert (ids[mask == 0] == 9).all()
