"""Echo embeddings: a text stands twice in the input and is pooled over the second time (Springer et al. 2024, arXiv 2402.15449).

A causal model has then seen the whole text when it reads the tokens that are pooled. It is a way to encode: nothing of
it is saved in a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fletching.errors import UsageError
from fletching.text import frame

Row = dict[str, list[int]]


def rows(
    tokenizer: Any, texts: Sequence[tuple[str, str]], between: str, length: int
) -> tuple[list[Row], int]:
    """(the inputs, how many texts were cut). texts: (prompt, text) each.

    An input is `prompt text between text` within what the tokenizer sets around a text, `length` tokens at most:
    both times the text is cut at the same number of tokens. `second` counts the tokens from the second time on,
    which are pooled.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            "--query-echo and --doc-echo need a fast tokenizer", "add the model's tokenizer.json"
        )
    before, behind = frame(tokenizer)
    first = tokenizer(
        [prompt + text for prompt, text in texts],
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    second = tokenizer(
        [between + text for _, text in texts], add_special_tokens=False, return_offsets_mapping=True
    )
    made, cut = [], 0
    for row, (prompt, _) in enumerate(texts):
        one, other = first["input_ids"][row], second["input_ids"][row]
        starts = (
            _start(first["offset_mapping"][row], len(prompt)),
            _start(second["offset_mapping"][row], len(between)),
        )
        room = length - len(before) - len(behind) - sum(starts)  # of the text, both times
        if room < 2:
            raise UsageError(
                f"the echo leaves no room for the text within {length} tokens",
                "shorten it and the prompt, or allow more tokens",
            )
        if len(one) - starts[0] + len(other) - starts[1] > room:
            cut += 1
            one, other = one[: starts[0] + room // 2], other[: starts[1] + room // 2]
        ids = [*before, *one, *other, *behind]
        made.append(
            {
                "input_ids": ids,
                "attention_mask": [1] * len(ids),
                "second": [len(other) - starts[1] + len(behind)],
            }
        )
    return made, cut


def _start(offsets: list[tuple[int, int]], characters: int) -> int:
    """The first token that reaches beyond so many characters; where a token holds both sides of the border, that one."""
    return next((token for token, (_, end) in enumerate(offsets) if end > characters), len(offsets))


def features(tokenizer: Any, inputs: Sequence[Row], multiple: int) -> dict[str, Any]:
    """The batch, padded; pooled (rows, tokens): 1 from each text's second time on."""
    bare = [{name: ids for name, ids in row.items() if name != "second"} for row in inputs]
    padded = tokenizer.pad(bare, padding=True, pad_to_multiple_of=multiple, return_tensors="pt")
    mask = padded["attention_mask"]  # (rows, tokens)
    last = (
        mask.flip(1).cumsum(1).flip(1)
    )  # the rank of each token from the end, wherever the padding is
    pooled = mask * (last <= torch.tensor([row["second"] for row in inputs]))
    return {**padded, "pooled": pooled, "modality": "text"}


def embed(model: Any, given: dict[str, Any]) -> Tensor:
    """Sentence embeddings (rows, D): attention sees all tokens, the modules behind the transformer those of `pooled`."""
    pooled = given.pop("pooled")
    states = model[0](given) | {"attention_mask": pooled}
    for module in list(model)[1:]:
        states = module(states)
    return states["sentence_embedding"]
