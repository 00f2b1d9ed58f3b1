"""Directions, joint softmax and hardness weights: sentence-transformers' own values, and the formula with known
answers written out in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from contrast_train import cli, losses
from contrast_train.losses import PairStructure

pytestmark = pytest.mark.slow  # as a whole: imports sentence-transformers

PEER = {
    "query-doc": "query_to_doc",
    "doc-query": "doc_to_query",
    "query-query": "query_to_query",
    "doc-doc": "doc_to_doc",
}
HARDNESS = {"all": "all_negatives", "hard": "hard_negatives", "in-batch": "in_batch_negatives"}
ALL = tuple(PEER)


def columns(count: int = 6, dimension: int = 5) -> list[Tensor]:
    """Anchors, positives and two hard negatives of each row."""
    gen = torch.Generator().manual_seed(0)
    return [
        torch.randn(count, dimension, generator=gen, dtype=torch.float64).requires_grad_()
        for _ in range(4)
    ]


def structure(rows: int, hard: int) -> PairStructure:
    own = torch.arange(rows)[:, None].repeat(1, 2)
    step = torch.tensor([0, rows])
    return PairStructure(
        positive_pairs=own,
        weights=torch.full((rows,), 1 / rows, dtype=torch.float64),
        hard_negative_pairs=torch.cat([own + step * k for k in range(1, hard + 1)] or [own[:0]]),
        masked_pairs=own,
    )


@pytest.mark.parametrize("hard", [0, 2])
@pytest.mark.parametrize(
    ("directions", "softmax", "hardness"),
    [
        (("query-doc",), "joint", None),
        (("query-doc", "doc-query"), "per-direction", None),
        (("query-doc", "doc-query"), "joint", None),
        (("query-doc", "query-query"), "joint", None),
        (("query-doc", "doc-doc"), "joint", None),
        (ALL, "joint", None),
        (("query-doc",), "joint", "all"),
        (("query-doc", "doc-query"), "per-direction", "in-batch"),
        (ALL, "joint", "hard"),
    ],
)
def test_each_form_has_the_value_and_gradient_of_sentence_transformers(
    directions: Any, softmax: str, hardness: str | None, hard: int
) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    embeddings = columns()[: 2 + hard]
    peer = MultipleNegativesRankingLoss(
        None,  # type: ignore[arg-type]
        directions=tuple(PEER[name] for name in directions),  # type: ignore[misc]
        partition_mode=softmax.replace("-", "_"),  # type: ignore[arg-type]
        hardness_mode=HARDNESS[hardness] if hardness else None,  # type: ignore[arg-type]
        hardness_strength=3.0 if hardness else 0.0,
    )
    value = peer.compute_loss_from_embeddings(embeddings, torch.empty(0))
    wanted = torch.autograd.grad(value, embeddings)
    extra = {"hardness_weight": 3.0, "hardness_of": hardness} if hardness else {}
    for tile in (2, 512):
        ours = losses.infonce(
            embeddings[0].detach(),
            torch.cat(embeddings[1:]).detach(),
            structure(6, hard),
            directions=directions,
            softmax=softmax,
            tile=tile,
            **extra,
        )
        assert ours.value.item() == pytest.approx(value.item(), rel=1e-6)
        assert torch.allclose(ours.queries, wanted[0], atol=1e-6)
        assert torch.allclose(ours.documents, torch.cat(wanted[1:]), atol=1e-6)


def test_the_short_forms_name_directions() -> None:
    q, d = (torch.randn(5, 4, dtype=torch.float64) for _ in range(2))
    pairs = structure(5, 0)
    short = losses.infonce(q, d, pairs, symmetric=True, query_negatives=True)
    spelt = losses.infonce(q, d, pairs, directions=("query-doc", "doc-query", "query-query"))
    assert torch.equal(short.queries, spelt.queries) and short.value == spelt.value


def test_a_joint_softmax_leaves_known_answers_out_of_every_direction() -> None:
    """Document 5 answers query 0 too, and document 1 answers queries 1 and 2."""
    gen = torch.Generator().manual_seed(3)
    q, d = (torch.randn(n, 4, generator=gen, dtype=torch.float64) for n in (4, 7))
    own = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]])
    hard = torch.tensor([[0, 4], [2, 6]])
    known = {(0, 0), (1, 1), (2, 2), (3, 3), (0, 5), (2, 1)}
    pairs = PairStructure(
        positive_pairs=own,
        weights=torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64),
        hard_negative_pairs=hard,
        masked_pairs=torch.tensor(sorted(known)),
    )
    q.requires_grad_(), d.requires_grad_()
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (q, d)]
    qd, qq, dd = (a @ b.T / 0.1 for a, b in ((unit[0], unit[1]), (unit[0],) * 2, (unit[1],) * 2))
    total = torch.zeros((), dtype=torch.float64)
    for (t, p), weight in zip(own.tolist(), pairs.weights):
        answered = {query for query in range(4) if (query, p) in known}
        siblings = {doc for doc in range(7) if any((query, doc) in known for query in answered)}
        own_hard = {doc for query, doc in hard.tolist() if query == t}
        scores = [qd[t, p], qd[t, p]]
        scores += [qd[t, doc] for doc in range(7) if (t, doc) not in known]
        scores += [qd[query, p] for query in range(4) if query not in answered]
        scores += [qq[t, query] for query in range(4) if query not in answered | {t}]
        scores += [dd[p, doc] for doc in range(7) if doc not in siblings | own_hard]
        total = total + weight * (torch.stack(scores).logsumexp(0) - qd[t, p])
    wanted = torch.autograd.grad(total, [q, d])
    ours = losses.infonce(
        q.detach(), d.detach(), pairs, temperature=0.1, directions=ALL, softmax="joint", tile=3
    )
    assert ours.value.item() == pytest.approx(total.item(), rel=1e-10)
    assert torch.allclose(ours.queries, wanted[0], atol=1e-10)
    assert torch.allclose(ours.documents, wanted[1], atol=1e-10)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--directions doc-query", "without query-doc"),
        ("--directions query-doc,doc-doc", "add doc-query, or pass --softmax joint"),
        (
            "--directions query-doc,doc-doc --softmax joint --candidates own",
            "--candidates own leaves --directions doc-doc nothing",
        ),
        ("--hardness-of hard", "pass --hardness-weight"),
        ("--loss kl --directions query-doc,query-query", "no meaning with --loss kl"),
        ("--directions query-dok", "did you mean query-doc?"),
    ],
)
def test_directions_that_contradict_each_other_are_refused(
    invoke: Any, tmp_path: Any, argv: str, message: str
) -> None:
    done = invoke(cli.main, "rows.jsonl", "--model", "m", "-o", tmp_path / "x", *argv.split())
    assert done.rc == 2
    assert message in done.err
