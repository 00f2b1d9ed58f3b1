"""The length of texts: in characters, or in tokens of a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import UsageError
from fletching.table.ragged_array import Integers

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

TOKENIZER_FILE = "tokenizer.json"


class TextMeasure(Protocol):
    """What measures texts. unit: of the lengths."""

    unit: str

    def lengths(self, texts: pa.StringArray) -> Integers:
        """The length of each text, (n,); 0 for null."""


class CharacterMeasure:
    """Lengths in Unicode characters."""

    unit = "characters"

    def lengths(self, texts: pa.StringArray) -> Integers:
        """The number of characters of each text, (n,)."""
        return np.asarray(pc.utf8_length(texts).fill_null(0), np.int64)


class TokenMeasure:
    """Lengths in tokens, with those that the tokenizer puts around a text."""

    unit = "tokens"

    def __init__(self, tokenizer: FastTokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer

    def lengths(self, texts: pa.StringArray) -> Integers:
        """The number of tokens of each text, (n,)."""
        encodings = self.tokenizer.encode_batch_fast(texts.fill_null("").to_pylist())
        counts = [len(encoding.ids) for encoding in encodings]
        lengths = np.array(counts, np.int64)
        lengths[np.asarray(texts.is_null())] = 0
        return lengths


def open_measure(model: str | None) -> TextMeasure:
    """The measure of --tokenizer; characters without one. Raises UsageError."""
    if model is None:
        return CharacterMeasure()
    try:
        from tokenizers import Tokenizer as FastTokenizer
    except ImportError:
        what = "--tokenizer needs the package tokenizers, which is not installed"
        raise UsageError(what, "pip install 'fletching-arrowcat[tokens]'") from None
    if os.path.isdir(model):
        path = os.path.join(model, TOKENIZER_FILE)
        if not os.path.exists(path):
            what = f"--tokenizer {model} holds no {TOKENIZER_FILE}"
            raise UsageError(what, "name a model's folder, or save its fast tokenizer there")
        return TokenMeasure(FastTokenizer.from_file(path))
    try:
        return TokenMeasure(FastTokenizer.from_pretrained(model))
    except Exception as error:  # the library raises a bare Exception for whatever went wrong
        message = str(error) or type(error).__name__
        reason = message.splitlines()[0]
        what = f"--tokenizer {model} cannot be loaded ({reason})"
        raise UsageError(
            what, f"name a model on the hub, or a folder with {TOKENIZER_FILE}"
        ) from None
