"""Batches without padding: texts laid end to end, each attending to itself alone.

transformers lets a model run under an attention function that is registered by name, and the pooling of
sentence-transformers takes texts end to end when it is told where each one starts. So an architecture
stays as it is written; only its attention is called once for each run of texts of equal length. On a CPU
that saves the padding and the mask; a GPU would drown in small kernels and keeps padded batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "fletching_packed"

# Architectures whose tokens meet nowhere but in the attention function, and whose positions can be given.
# The value: does the first position stand behind the padding id?
ARCHITECTURES = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}


FILL_TO = 64  # tokens


def prepare(model: Any, device: str) -> int | None:
    """Make a SentenceTransformer run packed batches: its first position; None where it cannot."""
    network: Any = getattr(model[0], "model", None)
    config: Any = getattr(network, "config", None)
    known = getattr(config, "model_type", None) in ARCHITECTURES and not config.is_decoder
    pools = (
        len(model) > 1
        and type(model[1]).__name__ == "Pooling"
        and hasattr(model[1], "_forward_flattened")
    )
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    if (
        device != "cpu"
        or not (known and pools and absolute)
        or any(type(module).__name__ not in _LATER for module in list(model)[2:])
    ):
        return None
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    network.set_attn_implementation(NAME)
    return config.pad_token_id + 1 if ARCHITECTURES[config.model_type] else 0


_LATER = (
    "Normalize",
    "Dense",
    "LayerNorm",
)  # modules behind the pooling that see sentence vectors alone


def features(inputs: Sequence[dict[str, list[int]]], first_position: int) -> dict[str, Any]:
    """The token ids of several texts as one row, and where each text starts; the last text is filler and no input.

    A kernel is made, and kept, for each number of tokens: a batch is filled up to a multiple, so that few are.
    """
    lengths = [len(row["input_ids"]) for row in inputs]
    filler = FILL_TO - sum(lengths) % FILL_TO
    ids = [token for row in inputs for token in row["input_ids"]] + [
        inputs[0]["input_ids"][0]
    ] * filler
    positions = torch.cat(
        [torch.arange(first_position, first_position + length) for length in lengths]
    )
    positions = torch.cat([positions, positions.new_full((filler,), first_position)])
    lengths.append(filler)
    starts = torch.tensor([0, *lengths]).cumsum(0)
    row = {"input_ids": torch.tensor([ids]), "position_ids": positions[None]}  # (1, tokens) each
    row["token_type_ids"] = torch.zeros_like(row["input_ids"])
    # `runs` is read by `attention`: (texts, length) of each run of equal lengths.
    runs = [(len(list(group)), length) for length, group in groupby(lengths)]
    return {**row, "cu_seq_lens_q": starts, "runs": runs, "modality": "text"}


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    runs: Sequence[tuple[int, int]],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention inside each text. query, key, value: (1, heads, tokens, d); result (1, tokens, heads, d)."""
    heads, tokens, width = query.shape[1:]
    result = query.new_empty(tokens, heads, width)
    start = 0
    for texts, length in runs:
        stop = start + texts * length
        # (texts, heads, length, d) each
        q, k, v = (
            each[0, :, start:stop].unflatten(1, (texts, length)).transpose(0, 1)
            for each in (query, key, value)
        )
        found = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling)
        result[start:stop].view(texts, length, heads, width).copy_(found.transpose(1, 2))
        start = stop
    return result[None], None


def _no_mask(*_: Any, **__: Any) -> None:
    return None
