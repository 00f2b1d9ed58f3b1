"""What every loss takes and gives: who belongs to whom, similarities, gradients for the raw vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

NO_LISTS, NO_SCORES = torch.empty(0, 3, dtype=torch.long), torch.empty(0)


class Structure(NamedTuple):
    """What belongs together in a batch of Q distinct queries and N distinct documents.

    terms    (T, 2) a query and one of its positives: one softmax each
    weights  (T,)   sum to 1; a row counts the same however many positives it has
    hard     (H, 2) a query and one of its own hard negatives
    known    (P, 2) a query and any document known to answer it, never a negative of it
    lists    (G, 3) row of the batch, its query, one of its scored documents
    scores   (G,)   the teacher's score or the label of that document
    guide_queries (Q, E), guide_documents (N, E)  a guide model's unit vectors of the same texts, or None
    """

    terms: Tensor
    weights: Tensor
    hard: Tensor
    known: Tensor
    lists: Tensor = NO_LISTS
    scores: Tensor = NO_SCORES
    guide_queries: Tensor | None = None
    guide_documents: Tensor | None = None


class Result(NamedTuple):
    """A loss and its gradients: for the raw vectors, and for the logarithm of its temperature where it has one."""

    value: Tensor  # ()
    queries: Tensor  # (Q, D)
    documents: Tensor  # (N, D)
    log_temperature: Tensor  # ()


class Lists:
    """Pairs (key, value) as one list of values for each key (compressed rows)."""

    def __init__(self, pairs: Tensor, keys: int) -> None:
        order = pairs[:, 0].argsort(stable=True)
        self.values = pairs[order, 1]
        counts = torch.bincount(pairs[:, 0], minlength=keys)
        self.counts = counts
        self.starts = counts.cumsum(0) - counts

    def of(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(place in `keys`, value) for every value of every key, as two flat tensors."""
        counts = self.counts[keys]
        places = torch.arange(len(keys), device=keys.device).repeat_interleave(counts)
        within = torch.arange(len(places), device=keys.device) - (counts.cumsum(0) - counts)[places]
        return places, self.values[self.starts[keys][places] + within]


Gradients = tuple[Tensor, Tensor, Tensor]  # value, gradient for q (Q, D), gradient for d (N, D)


def on_similarities(loss: Callable[..., Gradients]) -> Callable[..., Result]:
    """A loss of raw vectors, made from one whose similarities are the dot products of what it is given.

    Such a loss knows q and the temperature T only as q·d / T, so by Euler's rule for homogeneous
    functions its derivative for log T is -<q, dL/dq>.
    """

    @functools.wraps(loss)
    def of_raw(
        queries: Tensor,
        documents: Tensor,
        structure: Structure,
        *,
        similarity: str = "cosine",
        **settings: Any,
    ) -> Result:
        if similarity == "dot":
            q, d = exact(queries), exact(documents)
            value, grad_q, grad_d = loss(q, d, structure, **settings)
            return Result(value, grad_q, grad_d, -(q * grad_q).sum())
        (q, q_length), (d, d_length) = unit(queries), unit(documents)
        value, grad_q, grad_d = loss(q, d, structure, **settings)
        along_q, along_d = (q * grad_q).sum(1, keepdim=True), (d * grad_d).sum(1, keepdim=True)
        raw = through_norm(q, q_length, grad_q, along_q), through_norm(d, d_length, grad_d, along_d)
        return Result(value, *raw, -along_q.sum())

    return of_raw


def exact(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()


def unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x| (N, D) and |x| (N, 1)."""
    vectors = exact(vectors)
    length = vectors.norm(dim=1, keepdim=True).clamp_min_(1e-12)
    return vectors / length, length


def through_norm(unit: Tensor, length: Tensor, grad: Tensor, along: Tensor) -> Tensor:
    """The gradient for x, given the one for x / |x| and its part along it (N, 1). In place of `grad`."""
    return grad.addcmul_(unit, along, value=-1).div_(length)


def by_autograd(value: Callable[[Tensor, Tensor], Tensor], q: Tensor, d: Tensor) -> Gradients:
    """A function of the compared vectors and its gradients, by torch's own differentiation."""
    with torch.enable_grad():
        leaves = [vectors.detach().requires_grad_() for vectors in (q, d)]
        loss = value(*leaves)
        gradients = (
            torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            if loss.requires_grad
            else [torch.zeros_like(vectors) for vectors in leaves]
        )
    return loss.detach(), gradients[0], gradients[1]
