"""Sampling of the axes: which query type, length, language … the k-th request of a task asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fletching import seeded_random
from synthgen.prompts.library import Language

LENGTH = re.compile(
    r"(?:(less than|at least|at most|about) )?(\d+)(?: (?:to|-) (\d+))?(?: words)?", re.ASCII
)


def sample(axes: Mapping[str, Sequence[str]], seed: int, slot: str) -> dict[str, str]:
    """One value of each axis, uniformly. Each axis has a draw of its own, so that adding one changes no other."""
    return {
        axis: values[next(seeded_random.numbers(seed, f"{slot}/{axis}")) % len(values)]
        for axis, values in axes.items()
    }


def language(table: Sequence[Language], seed: int, slot: str) -> Language:
    """One language by weight."""
    total = sum(entry.weight for entry in table)
    point = next(seeded_random.numbers(seed, f"{slot}/language")) / 2**64 * total
    for entry in table:
        point -= entry.weight
        if point < 0:
            return entry
    return table[-1]


def pair(table: Sequence[Language], seed: int, slot: str) -> tuple[Language, Language]:
    """Two different languages by weight."""
    first = language(table, seed, slot)
    return first, language(
        [entry for entry in table if entry.code != first.code], seed, slot + "/target"
    )


def chosen(items: Sequence[str], count: int, seed: int, slot: str) -> list[str]:
    """`count` different items in random order."""
    order = seeded_random.permuted(seed, slot, len(items))
    return [items[i] for _, i in zip(range(min(count, len(items))), order)]


def words_asked(value: str) -> tuple[int, int] | None:
    """The range of words that a value of a length axis stands for, or None where it names none.

    >>> words_asked("less than 5 words"), words_asked("at least 10"), words_asked("200")
    ((1, 4), (10, 1000000000), (200, 200))
    """
    found = LENGTH.fullmatch(value)
    if not found:
        return None
    number = int(found[2])
    if found[1] == "less than":
        return 1, number - 1
    if found[1] == "at most":
        return 1, number
    if found[1] == "at least":
        return number, 10**9
    return number, int(found[3] or number)
