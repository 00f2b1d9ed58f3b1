"""Batches without padding: texts end to end in one row, each attending to itself alone.

transformers runs a model under an attention function registered by name, and the pooling of
sentence-transformers accepts texts end to end when it knows where each one starts. So an
architecture runs as it was written; only its attention is called once for each run of texts of
equal length. On a CPU that saves the padding and the mask; a GPU would drown in small kernels
and keeps padded batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from fletching.encode.echo import TokenRow

ATTENTION_NAME = "fletching_packed"  # under which transformers knows `attention`

# Architectures whose tokens interact in the attention function alone, and that accept position
# ids. The value: does the first position follow the padding id?
ARCHITECTURES = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}

# Modules behind the pooling that work on sentence vectors alone.
SENTENCE_MODULES = ("Normalize", "Dense", "LayerNorm")

FILL_TO = 64  # tokens


def prepare(model: SentenceTransformer, device: str) -> int | None:
    """Make a model take padding-free batches: its first position id, or None if it cannot."""
    if device != "cpu" or not is_supported(model):
        return None
    network: Any = model[0].model
    AttentionInterface.register(ATTENTION_NAME, attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _no_mask)
    network.set_attn_implementation(ATTENTION_NAME)
    return first_position(model)


def first_position(model: SentenceTransformer) -> int:
    """The position id of the first token of a text, of a model of ARCHITECTURES."""
    network: Any = model[0].model
    config = network.config
    follows_padding = ARCHITECTURES[config.model_type]
    return config.pad_token_id + 1 if follows_padding else 0


def is_supported(model: SentenceTransformer) -> bool:
    """Can this model take texts end to end?"""
    config: Any = getattr(getattr(model[0], "model", None), "config", None)
    if getattr(config, "model_type", None) not in ARCHITECTURES or config.is_decoder:
        return False
    if getattr(config, "position_embedding_type", "absolute") not in (None, "absolute"):
        return False
    _, *later_modules = model
    if not later_modules:
        return False
    pooling, *sentence_modules = later_modules
    if type(pooling).__name__ != "Pooling" or not hasattr(pooling, "_forward_flattened"):
        return False
    return all(type(module).__name__ in SENTENCE_MODULES for module in sentence_modules)


def collate(inputs: Sequence[TokenRow], first_position: int) -> dict[str, Any]:
    """The token ids of several texts as one row (1, tokens), and where each text starts.

    A kernel is compiled and kept for each number of tokens, so the row is filled up to a
    multiple of FILL_TO: its last text is filler and belongs to no input.
    """
    lengths = [len(token_row["input_ids"]) for token_row in inputs]
    filler = FILL_TO - sum(lengths) % FILL_TO
    token_ids = [token for token_row in inputs for token in token_row["input_ids"]]
    token_ids += [token_ids[0]] * filler
    position_ids = [first_position + offset for length in lengths for offset in range(length)]
    position_ids += [first_position] * filler  # no position that a model might lack
    lengths.append(filler)
    input_ids = torch.tensor([token_ids])
    return {
        "input_ids": input_ids,
        "position_ids": torch.tensor([position_ids]),
        "token_type_ids": torch.zeros_like(input_ids),
        "cu_seq_lens_q": torch.tensor([0, *lengths]).cumsum(0),
        # Read by `attention`: (texts, length) of each run of texts of equal length.
        "runs": [(len(list(group)), length) for length, group in groupby(lengths)],
        "modality": "text",
    }


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    runs: Sequence[tuple[int, int]],
    **_: object,
) -> tuple[Tensor, None]:
    """Attention inside each text, with the signature of transformers' attention functions.

    query, key, value: (1, heads, tokens, d). Returns (1, tokens, heads, d) and no weights.
    """
    heads, tokens, head_size = query.shape[1:]
    output = query.new_empty(tokens, heads, head_size)
    start = 0
    for texts, length in runs:
        stop = start + texts * length
        text_query = _split_texts(query[0, :, start:stop], texts)
        text_key = _split_texts(key[0, :, start:stop], texts)
        text_value = _split_texts(value[0, :, start:stop], texts)
        attended = nn.functional.scaled_dot_product_attention(
            text_query, text_key, text_value, scale=scaling
        )
        output[start:stop].view(texts, length, heads, head_size).copy_(attended.transpose(1, 2))
        start = stop
    return output[None], None


def _split_texts(states: Tensor, texts: int) -> Tensor:
    """(heads, texts x length, d) to (texts, heads, length, d)."""
    heads, _, head_size = states.shape
    return states.view(heads, texts, -1, head_size).transpose(0, 1)


def _no_mask(*_: object, **__: object) -> None:
    """transformers' mask of this attention: none is needed."""
