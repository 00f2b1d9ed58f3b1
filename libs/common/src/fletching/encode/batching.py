"""Which texts are encoded together: each distinct one once, in batches of similar length."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

WINDOW = 4096  # distinct texts sorted together

Item = TypeVar("Item", bound=Hashable)


def deduplicate(items: Iterable[Item]) -> tuple[list[Item], list[int]]:
    """(distinct items in order of appearance, for each item its number among them).

    >>> deduplicate("abca")
    (['a', 'b', 'c'], [0, 1, 2, 0])
    """
    numbers: dict[Item, int] = {}
    inverse = [numbers.setdefault(item, len(numbers)) for item in items]
    return list(numbers), inverse


def batches_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers by falling length, cut where a padded batch would exceed `budget` tokens.

    The batches depend on the lengths alone. A row longer than the budget is a batch by itself.

    >>> batches_by_length([2, 5, 3, 2], budget=6)
    [[1], [2, 0], [3]]
    """
    batches: list[list[int]] = []
    tokens_per_row = 0  # the longest of the batch, to which the others are padded
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if not batches or (len(batches[-1]) + 1) * tokens_per_row > budget:
            batches.append([])
            tokens_per_row = lengths[row]
        batches[-1].append(row)
    return batches
