"""Random choices that depend on (seed, row), never on order, threads or batches.

A draw is counter-based: number k of a row is the hash of (seed, row id, k). Two runs that see the same
row under the same seed make the same choice, whatever else they saw before.
"""

from __future__ import annotations

from collections.abc import Iterator

import xxhash


def numbers(seed: int, key: str) -> Iterator[int]:
    """Endless uniform 64-bit numbers of one row."""
    base = xxhash.xxh3_64_intdigest(key.encode(), seed=seed & 0xFFFF_FFFF_FFFF_FFFF)
    counter = 0
    while True:
        yield xxhash.xxh3_64_intdigest(counter.to_bytes(8, "little"), seed=base)
        counter += 1


def permuted(seed: int, key: str, size: int) -> Iterator[int]:
    """0 … size-1 in random order, lazily: only what is taken is computed.

    A Fisher-Yates shuffle that stores just the swapped positions, so that drawing 5 of 1,000,000 costs
    5 steps. The bias of `number % n` is below size / 2**64.
    """
    moved: dict[int, int] = {}
    for i, number in zip(range(size), numbers(seed, key)):
        j = i + number % (size - i)
        yield moved.get(j, j)
        moved[j] = moved.get(i, i)
