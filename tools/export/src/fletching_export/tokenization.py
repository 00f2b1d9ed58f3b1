"""tokenizer.json that truncates and pads by itself, so that `tokenizers` alone can serve it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

from fletching.encode.model import role_length
from fletching.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FILE = "tokenizer.json"
Tokens = dict[str, npt.NDArray[np.int64]]  # by the name of the graph's input, (texts, tokens)


def portable_tokenizer(model: SentenceTransformer, name: str) -> Tokenizer:
    """The tokenizer of a model with its truncation and padding inside.

    Raises InputError for one that is no fast tokenizer.
    """
    first: Any = model[0]
    if isinstance(first, StaticEmbedding):
        return _of_static_embedding(first)
    slow: Any = first.tokenizer
    backend = getattr(slow, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{name} has a tokenizer of Python ({type(slow).__name__}), which no other runtime has",
            "export a model whose folder holds a tokenizer.json",
        )
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.enable_truncation(
        role_length(model, "document", None), direction=slow.truncation_side
    )
    tokenizer.enable_padding(
        direction=slow.padding_side,
        pad_id=slow.pad_token_id or 0,
        pad_type_id=getattr(slow, "pad_token_type_id", 0),
        pad_token=slow.pad_token or "[PAD]",
    )
    return tokenizer


def _of_static_embedding(module: StaticEmbedding) -> Tokenizer:
    """Without the special tokens, which static embeddings leave out of the mean."""
    content = json.loads(module.tokenizer.to_str())
    content["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.enable_padding()
    return tokenizer


class TokenizerFile:
    """The tokenizer.json of an exported folder, as a program without torch reads it.

    inputs: those of the graph.
    """

    def __init__(self, folder: str, inputs: Sequence[str]) -> None:
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, FILE))
        self.inputs = inputs

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """The inputs of the graph for some texts."""
        encodings = self.tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [each.ids for each in encodings],
            "attention_mask": [each.attention_mask for each in encodings],
            "token_type_ids": [each.type_ids for each in encodings],
        }
        return {name: np.array(columns[name], dtype=np.int64) for name in self.inputs}
