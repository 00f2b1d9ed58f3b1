"""Is a generated text fit for training? Each check gives a named reason, or None."""

from __future__ import annotations

import functools
import re
import unicodedata

from fletching.text import normalise
from synthgen.llm.response_parsing import Unusable
from synthgen.prompts.attributes import words_asked
from synthgen.prompts.library import PLACE

# Control characters but for tab and line feed; what JSON may smuggle in as \ud800 is no text at all.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
SURROGATE = re.compile(r"[\ud800-\udfff]")
REFUSAL = re.compile(
    r"\b(as an ai\b|as a language model|i['’]?m sorry, but|i (?:cannot|can't|am unable to) (?:help|assist|fulfil|provide|comply))",
    re.IGNORECASE,
)
LEAK = 7  # consecutive words of a prompt that no honest answer repeats
DENSE = {
    "CJK": 1.6,
    "HIRAGANA": 2.5,
    "KATAKANA": 3.0,
    "THAI": 4.5,
    "LAO": 4.5,
    "KHMER": 4.5,
    "MYANMAR": 4.5,
}  # characters a word


def clean(text: str, name: str) -> str:
    """The text without control characters, or Unusable where nothing or no text is left."""
    if SURROGATE.search(text):
        raise Unusable("broken characters", f'"{name}" holds half a surrogate pair')
    text = CONTROL.sub(" ", text.replace("\r\n", "\n")).strip()
    if not text or not any(c.isalnum() for c in text):
        raise Unusable("empty field", f'"{name}" is empty')
    if REFUSAL.search(text[:200]):
        raise Unusable("refused by the model", f'"{name}": {text[:80]}')
    return text


@functools.lru_cache(4096)
def script(letter: str) -> str:
    """The first word of a letter's Unicode name: LATIN, CYRILLIC, CJK; "" for no letter."""
    return unicodedata.name(letter, "").split(" ")[0].split("-")[0] if letter.isalpha() else ""


def words(text: str) -> float:
    """Words of a text. In scripts without blanks, letters divided by the usual length of a word."""
    dense = 0.0
    spaced = []
    for letter in text:
        size = DENSE.get(script(letter)) if not letter.isascii() else None
        dense += 1 / size if size else 0
        spaced.append(" " if size else letter)
    return dense + sum(any(c.isalnum() for c in word) for word in "".join(spaced).split())


def of_length(text: str, asked: str | tuple[int, int], slack: float, name: str) -> None:
    """Unusable where the words are outside the range asked for, widened by `slack` (0.5: half to one and a half)."""
    bounds = words_asked(asked) if isinstance(asked, str) else asked
    if bounds is None:
        return
    low, high = bounds
    count = words(text)
    if count < low * (1 - slack) or count > high * (1 + slack):
        raise Unusable("wrong length", f'"{name}" has {count:.0f} words, asked: {asked}')


def different(first: str, second: str, what: str) -> None:
    if normalise(first) == normalise(second):
        raise Unusable(what)


def pieces(template: str) -> frozenset[tuple[str, ...]]:
    """All runs of LEAK words of a prompt's own words; what is filled in does not count."""
    runs = (re.findall(r"\w+", part.lower()) for part in PLACE.split(template)[::2])
    return frozenset(tuple(run[i : i + LEAK]) for run in runs for i in range(len(run) - LEAK + 1))


def no_leak(
    text: str, prompt: frozenset[tuple[str, ...]], fields: tuple[str, ...], name: str
) -> None:
    """Unusable where the text repeats the prompt or names the fields of the reply."""
    tokens = re.findall(r"\w+", text.lower())
    if any(tuple(tokens[i : i + LEAK]) in prompt for i in range(len(tokens) - LEAK + 1)):
        raise Unusable("instruction leak", f'"{name}" repeats the prompt')
    if any("_" in field and field in text for field in fields):
        raise Unusable("instruction leak", f'"{name}" names a field of the reply')


def stands_in(quote: str, passage: str) -> bool:
    """Does the quotation stand in the passage, but for case, blanks and punctuation at its ends?"""
    needle = normalise(quote).strip(" .,;:!?\"'“”‘’…")
    return len(needle) >= 2 and needle in normalise(passage)
