"""Seeded sampling of what a request asks for: attributes, languages, seed tasks.

A draw depends on (seed, slot) alone, where the slot is the place of the request in the plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fletching import seeded_random
from fletching_synthgen.prompts.library import Language, QueryForm

WORD_RANGE = re.compile(
    r"(?:(less than|at least|at most|about) )?(\d+)(?: (?:to|-) (\d+))?(?: words)?", re.ASCII
)
UNBOUNDED = 10**9  # words


def sample_attributes(
    attributes: Mapping[str, Sequence[str]], seed: int, slot: str
) -> dict[str, str]:
    """One value of each attribute, uniformly.

    Each attribute has its own random numbers, so that adding one changes no other's value.
    """
    sampled: dict[str, str] = {}
    for attribute, values in attributes.items():
        number = next(seeded_random.numbers(seed, f"{slot}/{attribute}"))
        sampled[attribute] = values[number % len(values)]
    return sampled


def sample_language(languages: Sequence[Language], seed: int, slot: str) -> Language:
    """One language by weight."""
    total = sum(language.weight for language in languages)
    number = next(seeded_random.numbers(seed, f"{slot}/language"))
    remaining = number / 2**64 * total
    for language in languages:
        remaining -= language.weight
        if remaining < 0:
            return language
    return languages[-1]


def sample_language_pair(
    languages: Sequence[Language], seed: int, slot: str
) -> tuple[Language, Language]:
    """Two different languages by weight."""
    first = sample_language(languages, seed, slot)
    others = [language for language in languages if language.code != first.code]
    return first, sample_language(others, seed, slot + "/target")


def sample_items(items: Sequence[str], seed: int, slot: str, *, count: int) -> list[str]:
    """`count` different items in random order; all of them where there are fewer."""
    order = seeded_random.permuted(seed, slot, len(items))
    positions = zip(range(min(count, len(items))), order)
    return [items[position] for _, position in positions]


def balanced_kinds(
    kinds: Sequence[QueryForm], seed: int, slot: str, *, count: int
) -> list[QueryForm]:
    """`count` kinds of query, each before any comes a second time, in random order."""
    order = list(seeded_random.permuted(seed, f"{slot}/kind", len(kinds)))
    return [kinds[order[number % len(kinds)]] for number in range(count)]


def parse_word_range(value: str) -> tuple[int, int] | None:
    """The smallest and largest number of words that a value of a length attribute allows.

    None where it names no number.

    >>> parse_word_range("less than 5 words"), parse_word_range("at least 10")
    ((1, 4), (10, 1000000000))
    >>> parse_word_range("200")
    (200, 200)
    """
    match = WORD_RANGE.fullmatch(value)
    if not match:
        return None
    relation, number, upper = match[1], int(match[2]), match[3]
    if relation == "less than":
        return 1, number - 1
    if relation == "at most":
        return 1, number
    if relation == "at least":
        return number, UNBOUNDED
    return number, int(upper or number)
