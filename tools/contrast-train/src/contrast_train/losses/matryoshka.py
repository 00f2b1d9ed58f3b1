"""Any loss over prefixes of the vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from contrast_train.losses.registry import Setting
from contrast_train.losses.structure import LossResult, PairStructure, at_least_float32

if TYPE_CHECKING:
    from torch import Tensor


def matryoshka(
    queries: Tensor,
    documents: Tensor,
    pairs: PairStructure,
    *,
    loss: Callable[..., LossResult],
    dims: Sequence[int],
    weights: Sequence[float] = (),
    **settings: Setting,
) -> LossResult:
    """sum_k v_k L(first dims[k] numbers of each vector), with v = weights / sum(weights).

    Equal weights where none are given. With the cosine, prefixes are normalised anew.
    Kusupati et al. 2022.
    """
    import torch

    queries, documents = at_least_float32(queries), at_least_float32(documents)
    value = queries.new_zeros(())
    log_temperature = queries.new_zeros(())
    query_gradient = torch.zeros_like(queries)
    document_gradient = torch.zeros_like(documents)
    weights = weights or [1.0] * len(dims)
    for dim, weight in zip(dims, weights, strict=True):
        share = weight / sum(weights)
        part = loss(queries[:, :dim], documents[:, :dim], pairs, **settings)
        value += part.value * share
        query_gradient[:, :dim] += part.queries * share
        document_gradient[:, :dim] += part.documents * share
        log_temperature += part.log_temperature * share
    return LossResult(
        value=value,
        queries=query_gradient,
        documents=document_gradient,
        log_temperature=log_temperature,
    )
