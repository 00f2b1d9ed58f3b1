"""Texts as the whole suite compares them: normalised equality and stable hashes."""

from __future__ import annotations

import unicodedata
from typing import Any

import xxhash


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


def content_id(*parts: str) -> str:
    """An id for a row that has none: 16 hex digits, equal for equal content.

    The length of each part goes in too, so that ("ab", "c") and ("a", "bc") differ.
    """
    content = b"".join(
        len(data).to_bytes(8, "little") + data for data in (part.encode() for part in parts)
    )
    return xxhash.xxh3_64_hexdigest(content)


def frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer sets before and behind a text: ids such as <s>, often none."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    before = next(
        start for start in range(len(whole) + 1) if whole[start : start + len(bare)] == bare
    )
    return whole[:before], whole[before + len(bare) :]
