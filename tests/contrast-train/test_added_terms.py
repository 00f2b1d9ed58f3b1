"""Terms beside the loss, against their formulas in float64 and sentence-transformers' own."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from contrast_train import cli, losses
from contrast_train.losses import PairStructure, added_terms, selection
from fletching.cli import parse


def batch(dimension: int = 6, teacher: int = 6) -> tuple[Tensor, Tensor, PairStructure]:
    """Four queries and seven documents, raw, with the unit vectors of a teacher."""
    gen = torch.Generator().manual_seed(dimension + teacher)
    q, d, tq, td = (
        torch.randn(count, width, generator=gen, dtype=torch.float64)
        for count, width in ((4, dimension), (7, dimension), (4, teacher), (7, teacher))
    )
    pairs = torch.arange(4)[:, None].repeat(1, 2)
    structure = PairStructure(
        positive_pairs=pairs,
        weights=torch.full((4,), 0.25, dtype=torch.float64),
        hard_negative_pairs=torch.tensor([[0, 4], [1, 5]]),
        masked_pairs=pairs,
        teacher_queries=torch.nn.functional.normalize(tq, dim=1),
        teacher_documents=torch.nn.functional.normalize(td, dim=1),
    )
    return q * 3, d * 2, structure


def unit(*vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(torch.cat(vectors), dim=1)


def cosine(q: Tensor, d: Tensor, s: PairStructure) -> Tensor:
    return (1 - (unit(q, d) * s.require_teacher()).sum(1)).mean()


def similarities(q: Tensor, d: Tensor, s: PairStructure) -> Tensor:
    x, t = unit(q, d), s.require_teacher()
    off_diagonal = ~torch.eye(len(x), dtype=torch.bool)
    return (x @ x.T - t @ t.T)[off_diagonal].square().mean()


def spread(q: Tensor, d: Tensor, s: PairStructure) -> Tensor:
    """As sentence-transformers computes it."""
    from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss

    peer = GlobalOrthogonalRegularizationLoss(None)  # type: ignore[arg-type]
    parts: Tensor = sum(peer.compute_loss_from_embeddings([q, d]).values())  # type: ignore[assignment]
    return parts


TERMS = {
    "teacher_cosine": (losses.teacher_cosine, cosine),
    "teacher_similarities": (losses.teacher_similarities, similarities),
    "spread_out": (losses.spread_out, spread),
}


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("tile", [2, 512])
def test_a_term_and_its_gradient_meet_the_formula(
    name: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(added_terms, "TILE", tile)
    q, d, structure = batch()
    if name == "spread_out":
        q, d = q.abs(), d.abs()  # the second moment is above 1 / D
    ours, formula = TERMS[name]
    result = ours(q, d, structure)
    leaves = [q.requires_grad_(), d.requires_grad_()]
    value = formula(q, d, structure)
    wanted = torch.autograd.grad(value, leaves)
    assert result.value.item() == pytest.approx(value.item(), rel=1e-12)
    assert torch.allclose(result.queries, wanted[0], atol=1e-12)
    assert torch.allclose(result.documents, wanted[1], atol=1e-12)
    assert result.queries.norm() > 1e-3


def test_a_teacher_of_other_dimensions_gives_its_similarities_alone() -> None:
    q, d, structure = batch(teacher=9)
    assert losses.teacher_cosine(q, d, structure).value == 0
    value = losses.teacher_similarities(q, d, structure).value
    assert value.item() == pytest.approx(similarities(q, d, structure).item())


def test_the_terms_of_a_model_that_is_its_own_teacher_begin_at_zero() -> None:
    q, d, structure = batch()
    own = replace(structure, teacher_queries=unit(q), teacher_documents=unit(d))
    for name in ("teacher_cosine", "teacher_similarities"):
        result = TERMS[name][0](q, d, own)
        assert abs(result.value) < 1e-12 and result.documents.norm() < 1e-12


def test_a_single_text_is_spread_out() -> None:
    q, _, structure = batch()
    assert losses.spread_out(q[:1], q[:1], structure).value == 0


@pytest.mark.parametrize("dims", [(), (3, 6)])
def test_options_add_terms_to_the_loss_and_prefixes_share_the_similarities(
    dims: tuple[int, ...],
) -> None:
    """The direction is learned by the whole vector alone, the structure by every prefix."""
    words = ["--model", "m", "--teacher-vectors", "t", "--teacher-weight", "0.5"]
    words += ["--spread-out", "2", "--temperature", "0.1"]
    words += ["--matryoshka", ",".join(map(str, dims))] if dims else []
    options = parse(cli.Options, words)
    q, d, structure = batch()
    result = selection.configure(options, "infonce", "cosine")(q, d, structure)
    q.requires_grad_(), d.requires_grad_()
    total = 0.5 * cosine(q, d, structure)
    infonce = functools.partial(losses.infonce, temperature=0.1)
    gradients = [torch.zeros_like(q), torch.zeros_like(d)]
    for dim in dims or (6,):
        share = 1 / max(len(dims), 1)
        parts = q[:, :dim], d[:, :dim]
        total = total + share * (
            0.5 * similarities(*parts, structure) + 2 * spread(*parts, structure)
        )
        contrast = infonce(*(part.detach() for part in parts), structure)
        total = total + share * contrast.value
        gradients[0][:, :dim] += share * contrast.queries
        gradients[1][:, :dim] += share * contrast.documents
    wanted = torch.autograd.grad(total, [q, d])
    assert result.value.item() == pytest.approx(total.item(), rel=1e-10)
    assert torch.allclose(result.queries, wanted[0] + gradients[0], atol=1e-10)
    assert torch.allclose(result.documents, wanted[1] + gradients[1], atol=1e-10)
    assert selection.describe_loss(options, "infonce", "cosine").endswith(
        " + 0.5 teacher-cosine + 0.5 teacher-similarities + 2 spread-out"
    )


def test_a_batch_without_a_teacher_is_an_error() -> None:
    q, d, structure = batch()
    with pytest.raises(ValueError, match="no teacher's vectors"):
        losses.teacher_cosine(q, d, replace(structure, teacher_queries=None))
