"""Any loss over prefixes of the vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from contrast_train.losses.structure import Result, Structure, exact


def matryoshka(
    queries: Tensor,
    documents: Tensor,
    structure: Structure,
    *,
    loss: Callable[..., Result],
    dims: Sequence[int],
    weights: Sequence[float] = (),
    **settings: Any,
) -> Result:
    """sum_k v_k L(first dims[k] numbers of each vector), v = weights / sum(weights); the mean without weights.

    With the cosine the prefixes are normalised anew. Kusupati et al. 2022.
    """
    total = torch.zeros((), dtype=exact(queries).dtype, device=queries.device)
    grad_q, grad_d, log_temperature = (
        torch.zeros_like(exact(queries)),
        torch.zeros_like(exact(documents)),
        torch.zeros_like(total),
    )
    for dim, weight in zip(dims, weights or [1.0] * len(dims), strict=True):
        share = weight / sum(weights or [1.0] * len(dims))
        part = loss(queries[:, :dim], documents[:, :dim], structure, **settings)
        total += part.value * share
        grad_q[:, :dim] += part.queries * share
        grad_d[:, :dim] += part.documents * share
        log_temperature += part.log_temperature * share
    return Result(total, grad_q, grad_d, log_temperature)
