"""Texts as the whole suite compares them: normalised equality and stable hashes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, Protocol

import xxhash


class Tokenizer(Protocol):
    """What transformers' tokenizers do."""

    def __call__(self, text: str, /, *, add_special_tokens: bool = True) -> Mapping[str, Any]:
        """The `input_ids` of a text."""


def normalise(text: str) -> str:
    """The form in which two texts count as equal: NFKC, case folded, blanks collapsed.

    >>> normalise("  Ｈello\\n WORLD ")
    'hello world'
    """
    # Case folding can leave NFKC (U+0345), so it is applied between two normalisations.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def text_hash(text: str) -> str:
    """xxh3-128 of the UTF-8 bytes, 32 hex digits: the join key of `vectors`."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def titled(title: str | None, text: str) -> str:
    """A document as encoders take it: title, one blank, text; the text alone without a title."""
    return f"{title} {text}" if title else text


def content_id(*parts: str) -> str:
    """An id for a row that has none: 16 hex digits, equal for equal content.

    The length of each part is hashed too, so that ("ab", "c") and ("a", "bc") differ.
    """
    encoded = (part.encode() for part in parts)
    content = b"".join(len(data).to_bytes(8, "little") + data for data in encoded)
    return xxhash.xxh3_64_hexdigest(content)


def surrounding_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of the special tokens that a tokenizer puts before and after a text, often none."""
    framed: list[int] = tokenizer("a")["input_ids"]
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    starts = range(len(framed) + 1)
    start = next(start for start in starts if framed[start : start + len(bare)] == bare)
    return framed[:start], framed[start + len(bare) :]
