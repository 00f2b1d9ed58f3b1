"""Is a generated text fit for training? Checks that raise RejectedResponseError."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Collection

from fletching.text import normalise
from fletching_synthgen.llm.response_parsing import RejectedResponseError
from fletching_synthgen.prompts.attributes import parse_word_range
from fletching_synthgen.prompts.library import PLACEHOLDER

# Control characters except tab and line feed.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
# What JSON may carry as \ud800 is no character.
SURROGATE = re.compile(r"[\ud800-\udfff]")
REFUSAL = re.compile(
    r"\b(as an ai\b|as a language model|i['’]?m sorry, but"
    r"|i (?:cannot|can't|am unable to) (?:help|assist|fulfil|provide|comply))",
    re.IGNORECASE,
)
REFUSAL_CHARACTERS = 200  # a refusal comes first
SHOWN_CHARACTERS = 80  # of a text in a detail
LEAK_WORDS = 7  # consecutive words of a prompt that no honest response repeats
LEAST_QUOTE = 2  # characters
# Characters a word, in scripts that are written without blanks.
CHARACTERS_PER_WORD = {
    "CJK": 1.6,
    "HIRAGANA": 2.5,
    "KATAKANA": 3.0,
    "THAI": 4.5,
    "LAO": 4.5,
    "KHMER": 4.5,
    "MYANMAR": 4.5,
}

Phrase = tuple[str, ...]


def clean_text(text: str, field: str) -> str:
    """The text without control characters.

    Raises RejectedResponseError where it is empty, a refusal, or holds half a character.
    """
    if SURROGATE.search(text):
        raise RejectedResponseError("broken characters", f'"{field}" holds half a surrogate pair')
    text = CONTROL.sub(" ", text.replace("\r\n", "\n")).strip()
    if not any(character.isalnum() for character in text):
        raise RejectedResponseError("empty field", f'"{field}" is empty')
    if REFUSAL.search(text[:REFUSAL_CHARACTERS]):
        shown = text[:SHOWN_CHARACTERS]
        raise RejectedResponseError("refused by the model", f'"{field}": {shown}')
    return text


@functools.lru_cache(4096)
def script_of(letter: str) -> str:
    """The first word of a letter's Unicode name, LATIN or CJK; "" for what is no letter."""
    if not letter.isalpha():
        return ""
    name = unicodedata.name(letter, "")
    return name.split(" ")[0].split("-")[0]


def count_words(text: str) -> float:
    """Words of a text.

    In scripts without blanks: letters divided by the usual length of a word.
    """
    dense_words = 0.0
    spaced: list[str] = []  # the text with blanks for what is counted by letters
    for character in text:
        length = None if character.isascii() else CHARACTERS_PER_WORD.get(script_of(character))
        if length is None:
            spaced.append(character)
        else:
            dense_words += 1 / length
            spaced.append(" ")
    words = "".join(spaced).split()
    spaced_words = sum(any(character.isalnum() for character in word) for word in words)
    return dense_words + spaced_words


def check_length(text: str, requested: str | tuple[int, int], *, slack: float, field: str) -> None:
    """Reject a text outside the requested range of words, widened by `slack`.

    requested: a value of a length attribute, or (fewest, most) words.
    slack: 0.5 allows half the fewest and one and a half times the most.
    """
    bounds = parse_word_range(requested) if isinstance(requested, str) else requested
    if bounds is None:
        return
    fewest, most = bounds
    words = count_words(text)
    if words < fewest * (1 - slack) or words > most * (1 + slack):
        detail = f'"{field}" has {words:.0f} words, asked: {requested}'
        raise RejectedResponseError("wrong length", detail)


def check_different(first: str, second: str, reason: str) -> None:
    """Reject two texts that differ only in case, width or blanks."""
    if normalise(first) == normalise(second):
        raise RejectedResponseError(reason)


def prompt_phrases(template: str) -> frozenset[Phrase]:
    """All runs of 7 words of a template itself, without what fills its placeholders."""
    phrases: set[Phrase] = set()
    # The split alternates between text and names of placeholders.
    for part in PLACEHOLDER.split(template)[::2]:
        phrases.update(_phrases(part))
    return frozenset(phrases)


def _phrases(text: str) -> list[Phrase]:
    words = re.findall(r"\w+", text.lower())
    starts = range(len(words) - LEAK_WORDS + 1)
    return [tuple(words[start : start + LEAK_WORDS]) for start in starts]


def check_no_leak(
    text: str, phrases: Collection[Phrase], *, reply_fields: Collection[str], field: str
) -> None:
    """Reject a text that repeats the prompt or names the fields of the reply.

    phrases: `prompt_phrases` of the template.
    """
    if any(phrase in phrases for phrase in _phrases(text)):
        raise RejectedResponseError("instruction leak", f'"{field}" repeats the prompt')
    if any("_" in name and name in text for name in reply_fields):
        raise RejectedResponseError("instruction leak", f'"{field}" names a field of the reply')


def contains_quote(passage: str, quote: str) -> bool:
    """Is the quote in the passage, whatever its case, blanks and final punctuation?"""
    core = normalise(quote).strip(" .,;:!?\"'“”‘’…")
    return len(core) >= LEAST_QUOTE and core in normalise(passage)
