"""What every loss takes and returns: the pairs of a batch, and gradients for its raw vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Gradients = tuple["Tensor", "Tensor", "Tensor"]  # value (), gradient of q (Q, D), of d (N, D)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairStructure:
    """Which of Q distinct queries and N distinct documents of a batch belong together.

    positive_pairs       (T, 2) a query and one of its positives: one softmax each
    weights              (T,)   of these, with sum 1; a row counts the same whatever its positives
    hard_negative_pairs  (H, 2) a query and one of its own hard negatives
    masked_pairs         (P, 2) a query and a document known to answer it, never its negative
    scored_pairs         (G, 3) row of the batch, its query, one of its scored documents; None where
                         the loss declares no need for scores
    scores               (G,)   the teacher's score or the label of that document
    guide_queries (Q, E), guide_documents (N, E)  a guide model's unit vectors of the same texts
    teacher_queries (Q, E), teacher_documents (N, E)  the same of a teacher
    """

    positive_pairs: Tensor
    weights: Tensor
    hard_negative_pairs: Tensor
    masked_pairs: Tensor
    scored_pairs: Tensor | None = None
    scores: Tensor | None = None
    guide_queries: Tensor | None = None
    guide_documents: Tensor | None = None
    teacher_queries: Tensor | None = None
    teacher_documents: Tensor | None = None

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> PairStructure:
        """From a mapping that may hold more names than those of the fields."""
        names = [field.name for field in dataclasses.fields(cls)]
        present: dict[str, Any] = {name: tensors[name] for name in names if name in tensors}
        return cls(**present)

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def require_scores(self) -> tuple[Tensor, Tensor]:
        """(scored_pairs, scores). Raises ValueError where the batch was made without them."""
        if self.scored_pairs is None or self.scores is None:
            raise ValueError(
                "the batch carries no scores: a loss that reads them must declare it, "
                "e.g. @loss(…, needs=ScoredLists(2))"
            )
        return self.scored_pairs, self.scores

    def require_teacher(self) -> Tensor:
        """The teacher's unit vectors (Q + N, E), queries first. Raises ValueError without them."""
        import torch

        if self.teacher_queries is None or self.teacher_documents is None:
            raise ValueError("the batch carries no teacher's vectors: give the collator a teacher")
        return torch.cat([self.teacher_queries, self.teacher_documents])

    @property
    def guide(self) -> tuple[Tensor, Tensor] | None:
        """The guide's (query vectors, document vectors), where there is one."""
        if self.guide_queries is None or self.guide_documents is None:
            return None
        return self.guide_queries, self.guide_documents


class LossResult(NamedTuple):
    """A loss with its gradients for the raw vectors, and for the logarithm of its
    temperature.
    """

    value: Tensor  # ()
    queries: Tensor  # (Q, D)
    documents: Tensor  # (N, D)
    log_temperature: Tensor  # ()


class RaggedTensor:
    """A list of values for each of r rows, end to end: fletching.table.RaggedArray, in torch.

    >>> import torch
    >>> lists = RaggedTensor.from_pairs(torch.tensor([[2, 7], [0, 5], [0, 6]]), rows=3)
    >>> lists.lengths.tolist(), lists.values.tolist(), lists.owners.tolist()
    ([2, 0, 1], [5, 6, 7], [0, 0, 2])
    >>> lists.take(torch.tensor([2, 0])).values.tolist()
    [7, 5, 6]
    """

    def __init__(self, values: Tensor, lengths: Tensor) -> None:
        self.values = values  # (n,)
        self.lengths = lengths  # (r,), with sum n
        self.starts = lengths.cumsum(0) - lengths

    @classmethod
    def from_pairs(cls, pairs: Tensor, rows: int) -> RaggedTensor:
        """Pairs (n, 2) of row and value, in any order."""
        order = pairs[:, 0].argsort(stable=True)
        return cls(pairs[order, 1], pairs[:, 0].bincount(minlength=rows))

    @property
    def owners(self) -> Tensor:
        """The row of each value (n,)."""
        return _owners(self.lengths)

    @property
    def ranks_within(self) -> Tensor:
        """The position of each value in its own list (n,)."""
        return _ranks_within(self.lengths, self.owners)

    def take(self, rows: Tensor) -> RaggedTensor:
        """The lists of these rows, in this order; a row may come up several times."""
        lengths = self.lengths[rows]
        owners = _owners(lengths)
        positions = self.starts[rows][owners] + _ranks_within(lengths, owners)
        return RaggedTensor(self.values[positions], lengths)


def _owners(lengths: Tensor) -> Tensor:
    """[2, 0, 1] -> [0, 0, 2]."""
    import torch

    return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)


def _ranks_within(lengths: Tensor, owners: Tensor) -> Tensor:
    """[2, 0, 1] -> [0, 1, 0]."""
    import torch

    starts = lengths.cumsum(0) - lengths
    return torch.arange(len(owners), device=lengths.device) - starts[owners]


def differentiate(
    compute: Callable[[Tensor, Tensor], Gradients],
    queries: Tensor,
    documents: Tensor,
    *,
    similarity: str,
) -> LossResult:
    """A loss of raw vectors, from one whose similarities are the dot products of what it
    takes.

    Such a loss knows its vectors and the temperature T only as products of two vectors over T, so
    by Euler's rule for homogeneous functions its derivative for log T is
    -(<q, dL/dq> + <d, dL/dd>) / 2.
    """
    if similarity == "dot":
        q, d = at_least_float32(queries), at_least_float32(documents)
        value, q_gradient, d_gradient = compute(q, d)
        return LossResult(
            value=value,
            queries=q_gradient,
            documents=d_gradient,
            log_temperature=-((q * q_gradient).sum() + (d * d_gradient).sum()) / 2,
        )
    q, q_norm = normalise(queries)
    d, d_norm = normalise(documents)
    value, q_gradient, d_gradient = compute(q, d)
    q_radial = (q * q_gradient).sum(1, keepdim=True)
    d_radial = (d * d_gradient).sum(1, keepdim=True)
    # The gradient for x of a function of x / |x|: its radial part drops out, the rest shrinks
    # by |x|.
    raw_queries = q_gradient.addcmul_(q, q_radial, value=-1).div_(q_norm)
    raw_documents = d_gradient.addcmul_(d, d_radial, value=-1).div_(d_norm)
    return LossResult(
        value=value,
        queries=raw_queries,
        documents=raw_documents,
        log_temperature=-(q_radial.sum() + d_radial.sum()) / 2,
    )


def at_least_float32(vectors: Tensor) -> Tensor:
    """float32, or float64 where the vectors are (for tests)."""
    import torch

    return vectors if vectors.dtype == torch.float64 else vectors.float()


def normalise(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x| (n, D) and |x| (n, 1)."""
    vectors = at_least_float32(vectors)
    norms = vectors.norm(dim=1, keepdim=True).clamp_min_(1e-12)
    return vectors / norms, norms


def by_autograd(value: Callable[[Tensor, Tensor], Tensor], q: Tensor, d: Tensor) -> Gradients:
    """A function of q and d with its gradients, by torch's own differentiation."""
    import torch

    with torch.enable_grad():
        leaves = [vectors.detach().requires_grad_() for vectors in (q, d)]
        result = value(*leaves)
        if not result.requires_grad:
            return result.detach(), torch.zeros_like(q), torch.zeros_like(d)
        q_gradient, d_gradient = torch.autograd.grad(
            result, leaves, allow_unused=True, materialize_grads=True
        )
    return result.detach(), q_gradient, d_gradient
