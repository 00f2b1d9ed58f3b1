"""Echo embeddings: a text appears twice in the input and is pooled over its second occurrence.

Springer et al. 2024, arXiv 2402.15449. A causal model has then read the whole text before it
reads the tokens that are pooled. It is a way to encode: nothing of it is saved in a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fletching.errors import UsageError
from fletching.text import surrounding_tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import BatchEncoding, PreTrainedTokenizerBase

TokenRow = dict[str, list[int]]  # input_ids, attention_mask … of one text
ECHO_TOKENS = "echo_tokens"  # of a TokenRow: tokens from the second occurrence to the end
POOLING_MASK = "pooling_mask"  # of a batch: (rows, tokens), 1 where a token is pooled


def build_inputs(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[tuple[str, str]],
    *,
    separator: str,
    max_length: int,
) -> tuple[list[TokenRow], int]:
    """(the inputs, number of truncated texts). texts: (prompt, text) each.

    An input is `prompt text separator text` inside the special tokens that the tokenizer adds,
    at most `max_length` tokens in all. Both occurrences are truncated to the same number of
    tokens. Raises UsageError where prompt and separator leave fewer than two tokens for the
    text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            "--query-echo and --doc-echo need a fast tokenizer", "add the model's tokenizer.json"
        )
    prefix, suffix = surrounding_tokens(tokenizer)
    first = _tokenize(tokenizer, [prompt + text for prompt, text in texts])
    second = _tokenize(tokenizer, [separator + text for _, text in texts])
    inputs: list[TokenRow] = []
    truncated = 0
    for row, (prompt, _) in enumerate(texts):
        first_ids, second_ids = first["input_ids"][row], second["input_ids"][row]
        first_start = _first_token_after(first["offset_mapping"][row], len(prompt))
        second_start = _first_token_after(second["offset_mapping"][row], len(separator))
        special_tokens = len(prefix) + len(suffix)
        # Of both occurrences together.
        text_budget = max_length - special_tokens - first_start - second_start
        if text_budget < 2:
            raise UsageError(
                f"the echo leaves no room for the text within {max_length} tokens",
                "shorten it and the prompt, or allow more tokens",
            )
        text_tokens = len(first_ids) - first_start + len(second_ids) - second_start
        if text_tokens > text_budget:
            truncated += 1
            first_ids = first_ids[: first_start + text_budget // 2]
            second_ids = second_ids[: second_start + text_budget // 2]
        ids = [*prefix, *first_ids, *second_ids, *suffix]
        echo_tokens = len(second_ids) - second_start + len(suffix)
        inputs.append(
            {
                "input_ids": ids,
                "attention_mask": [1] * len(ids),
                ECHO_TOKENS: [echo_tokens],
            }
        )
    return inputs, truncated


def _tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> BatchEncoding:
    """Ids without special tokens, and the characters that each token covers."""
    encoding: BatchEncoding = tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=True
    )
    return encoding


def _first_token_after(offsets: list[tuple[int, int]], characters: int) -> int:
    """The first token that ends beyond so many characters."""
    for token, (_, end) in enumerate(offsets):
        if end > characters:
            return token
    return len(offsets)


def collate(
    tokenizer: PreTrainedTokenizerBase, inputs: Sequence[TokenRow], multiple: int
) -> dict[str, Any]:
    """The padded batch with the mask of pooled tokens. multiple: of the padded length."""
    bare = [
        {name: ids for name, ids in token_row.items() if name != ECHO_TOKENS}
        for token_row in inputs
    ]
    padded = tokenizer.pad(bare, padding=True, pad_to_multiple_of=multiple, return_tensors="pt")
    mask: Any = padded["attention_mask"]  # (rows, tokens)
    # The rank of each token from the end: 1 for the last one, wherever the padding is.
    rank_from_end = mask.flip(1).cumsum(1).flip(1)
    echo_tokens = torch.tensor([token_row[ECHO_TOKENS] for token_row in inputs])  # (rows, 1)
    pooling_mask = mask * (rank_from_end <= echo_tokens)
    return {**padded, POOLING_MASK: pooling_mask, "modality": "text"}


def embed(model: SentenceTransformer, features: dict[str, Any]) -> Tensor:
    """Sentence embeddings (rows, D): attention covers all tokens, pooling those of the mask."""
    pooling_mask = features.pop(POOLING_MASK)
    transformer, *later_modules = model
    states: dict[str, Tensor] = transformer(features) | {"attention_mask": pooling_mask}
    for module in later_modules:
        states = module(states)
    return states["sentence_embedding"]
