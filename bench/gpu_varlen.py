"""Packed batches on a GPU: `fletching.encode`'s texts end to end, under torch's variable-length attention.

A candidate that bench/gpu_encode.py times beside what fletching does on a GPU, which is padded batches. On a CPU, where
torch has no such kernel, the product's own attention in runs of equal length stands in, so that the plumbing can be tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fletching.encode import Encoder, padding_free

NAME = "bench_varlen"  # under which transformers knows `attention`


def prepare(encoder: Encoder) -> None:
    """Make the encoder take packed batches, whatever its device. Exits where it cannot."""
    from transformers import AttentionInterface, AttentionMaskInterface

    model = encoder.model
    if not padding_free.is_supported(model):
        raise SystemExit(f"{encoder.options.model} cannot be packed")
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    network: Any = model[0]
    network.model.set_attn_implementation(NAME)
    encoder.forward_pass.first_position = padding_free.first_position(model)


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    runs: Sequence[tuple[int, int]],
    **more: object,
) -> tuple[Tensor, None]:
    """Of (1, heads, tokens, d) each: (1, tokens, heads, d), every text attending to itself."""
    if query.device.type == "cpu":
        return padding_free.attention(
            module, query, key, value, attention_mask, scaling=scaling, runs=runs
        )
    from torch.nn.attention.varlen import varlen_attn

    starts = starts_on_device(tuple(runs), query.device)
    longest = max(length for _, length in runs)
    states = [each[0].transpose(0, 1).contiguous() for each in (query, key, value)]
    attended = varlen_attn(*states, starts, starts, longest, longest, scale=scaling)
    return attended[None], None


_newest: dict[tuple[tuple[int, int], ...], Tensor] = {}


def starts_on_device(runs: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Where each text starts, and the end: int32 (texts + 1,). Of the newest batch: every layer asks."""
    if runs not in _newest:
        lengths = [length for texts, length in runs for _ in range(texts)]
        _newest.clear()
        starts = [0, *accumulate(lengths)]
        _newest[runs] = torch.tensor(starts, dtype=torch.int32, device=device)
    return _newest[runs]
