"""The vectors of distinct texts in one array on disk, found by the key of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from fletching.encode.memmap_buffer import allocate
from fletching.table import KeySet

WINDOW = 4096  # texts encoded at a time

Item = TypeVar("Item")
Keys = npt.NDArray[np.uint64]


class VectorsByText:
    """Unit vectors (texts, E) by the key of a text. In memory: 9 bytes a distinct text.

    On disk: 4 x E bytes each.
    """

    def __init__(self, texts: Iterable[str], dimension: int) -> None:
        self.keys = KeySet(_keys(texts))
        self.vectors = allocate(len(self.keys), dimension)

    def __len__(self) -> int:
        return len(self.keys)

    def fill(
        self,
        items: Iterable[Item],
        key: Callable[[Item], str],
        encode: Callable[[list[Item]], npt.NDArray[np.float32]],
    ) -> None:
        """Encode every distinct text once, in windows. key: the text of an item."""
        for positions, window in self._distinct_windows(items, key):
            self.vectors[positions] = encode(window)

    def _distinct_windows(
        self, items: Iterable[Item], key: Callable[[Item], str]
    ) -> Iterator[tuple[list[int], list[Item]]]:
        is_seen = np.zeros(len(self.keys), bool)
        positions: list[int] = []
        window: list[Item] = []
        for item in items:
            position = int(self.keys.positions(_keys([key(item)]))[0])
            if is_seen[position]:
                continue
            is_seen[position] = True
            positions.append(position)
            window.append(item)
            if len(window) == WINDOW:
                yield positions, window
                positions, window = [], []
        if window:
            yield positions, window

    def take(self, texts: list[str]) -> Tensor:
        """The vectors (n, E) of these texts, all of which were filled."""
        positions = self.keys.positions(_keys(texts))
        return torch.from_numpy(self.vectors[positions])


def _keys(texts: Iterable[str]) -> Keys:
    return np.fromiter((xxhash.xxh3_64_intdigest(text.encode()) for text in texts), np.uint64)
