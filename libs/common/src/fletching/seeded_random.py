"""Random choices that depend on (seed, row), never on order, threads or batches.

Counter-based: number k of a row is the hash of (seed, row id, k). Two runs that see the same row
under the same seed make the same choice, whatever else they saw before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import xxhash

_UINT64 = 0xFFFF_FFFF_FFFF_FFFF


def numbers(seed: int, key: str) -> Iterator[int]:
    """Endless uniform 64-bit numbers of one row."""
    base = xxhash.xxh3_64_intdigest(key.encode(), seed=seed & _UINT64)
    for counter in itertools.count():
        yield xxhash.xxh3_64_intdigest(counter.to_bytes(8, "little"), seed=base)


def permuted(seed: int, key: str, size: int) -> Iterator[int]:
    """0 … size-1 in random order, lazily: only the numbers that are consumed are computed.

    A Fisher-Yates shuffle that stores only the swapped positions, so that drawing 5 of 1,000,000
    costs 5 steps. The bias of `number % n` is below size / 2**64.
    """
    swapped: dict[int, int] = {}
    for i, number in zip(range(size), numbers(seed, key)):
        j = i + number % (size - i)
        yield swapped.get(j, j)
        swapped[j] = swapped.get(i, i)
