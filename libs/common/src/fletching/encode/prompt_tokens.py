"""Models that leave the tokens of prompts out of pooling, told apart by the characters covered.

sentence-transformers counts the tokens of the prompt alone. A byte-level tokenizer joins the blank
at its end with the first word of the text, so that count is one too many, and the word is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

PROMPT_TOKENS = "prompt_tokens"  # of a row or batch: how many tokens are before the text
Offsets = Sequence[tuple[int, int]]  # the characters that each token covers; (0, 0): a special one


def count_prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, str]]
) -> list[int]:
    """How many tokens of each (prompt, text) are before the text, as `tokens_before` counts."""
    prompted = [prompt + text for prompt, text in texts]
    encoded: Any = tokenizer(prompted, return_offsets_mapping=True)
    return [
        tokens_before(offsets, len(prompt))
        for (prompt, _), offsets in zip(texts, encoded["offset_mapping"])
    ]


def tokens_before(offsets: Offsets, characters: int) -> int:
    """The tokens before the first one that ends beyond so many characters; 0 for no characters.

    Special tokens at the start are among them, those at the end are not. A token across the
    border belongs to the text.

    >>> tokens_before([(0, 0), (0, 5), (5, 9), (0, 0)], 6)
    2
    """
    if not characters:
        return 0
    for token, (_, end) in enumerate(offsets):
        if end > characters:
            return token
    covering = [token for token, (_, end) in enumerate(offsets) if end]
    return covering[-1] + 1 if covering else len(offsets)


def embed(model: SentenceTransformer, features: dict[str, Any]) -> Tensor:
    """Sentence embeddings (rows, D): attention covers prompts, pooling leaves them out.

    The pooling takes one number of prompt tokens, so rows of an equal number are pooled together.
    """
    counts: Tensor = features.pop(PROMPT_TOKENS)
    transformer, *later_modules = model
    states: dict[str, Any] = transformer(features)
    embeddings: list[Tensor] = []
    rows: list[Tensor] = []
    for count in sorted(set(counts.tolist())):
        group = torch.nonzero(counts == count)[:, 0]
        part = {name: _take(value, group, len(counts)) for name, value in states.items()}
        part["prompt_length"] = count
        for module in later_modules:
            part = module(part)
        embeddings.append(part["sentence_embedding"])
        rows.append(group)
    return torch.cat(embeddings)[torch.cat(rows).argsort()]


def _take(value: Any, rows: Tensor, batch: int) -> Any:  # noqa: ANN401
    """These rows of a tensor over the batch; anything else as it is."""
    has_rows = isinstance(value, Tensor) and value.dim() and len(value) == batch
    return value[rows] if has_rows else value
