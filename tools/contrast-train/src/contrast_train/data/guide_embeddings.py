"""The vectors of a guide model, which sees false negatives: each distinct text encoded once, kept on disk.

In memory: 9 bytes a distinct text. On disk: 4 x E bytes, and the encoder's cache while the run lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
import xxhash
from torch import Tensor

from contrast_train.data.dataset import Rows
from fletching.encode import Encoder
from fletching.encode.memmap_buffer import allocate
from fletching.options import EncodingOptions
from fletching.report import Report

WINDOW = 4096
Role = Literal["query", "document"]


class Guide:
    """(queries, documents) -> their unit vectors (Q, E) and (N, E), for texts of `rows` alone."""

    def __init__(self, rows: Rows, options: EncodingOptions, report: Report) -> None:
        self.keys = {
            "query": np.unique(
                np.fromiter((_key(text) for text in rows.column("query")), np.uint64)
            ),
            "document": np.unique(
                np.fromiter((_key(text) for text in _documents(rows)), np.uint64)
            ),
        }
        self.vectors: dict[str, np.ndarray] = {}
        with (
            Encoder(options, report) as encoder,
            report.progress("guide", sum(map(len, self.keys.values())), "texts") as progress,
        ):
            self.fingerprint = encoder.fingerprint
            for role, texts in (("query", rows.column("query")), ("document", _documents(rows))):
                keys = self.keys[role]
                self.vectors[role] = allocate(len(keys), encoder.dimension)
                for places, window in _unseen(texts, keys):
                    self.vectors[role][places] = encoder.encode(window, role, progress=progress)  # type: ignore[arg-type]

    def __call__(self, queries: list[str], documents: list[str]) -> tuple[Tensor, Tensor]:
        return self._of("query", queries), self._of("document", documents)

    def _of(self, role: Role, texts: list[str]) -> Tensor:
        places = np.searchsorted(self.keys[role], np.fromiter(map(_key, texts), np.uint64))
        return torch.from_numpy(self.vectors[role][places])


def _documents(rows: Rows) -> Iterator[str]:
    for name in ("pos", "neg"):
        for texts in rows.column(name):
            yield from texts or []


def _unseen(texts: Iterable[str], keys: np.ndarray) -> Iterator[tuple[list[int], list[str]]]:
    """Every distinct text once, in order, in windows, with its place in `keys`."""
    seen = np.zeros(len(keys), bool)
    places: list[int] = []
    window: list[str] = []
    for text in texts:
        place = int(np.searchsorted(keys, np.uint64(_key(text))))
        if seen[place]:
            continue
        seen[place] = True
        places.append(place)
        window.append(text)
        if len(window) == WINDOW:
            yield places, window
            places, window = [], []
    if window:
        yield places, window


def _key(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())
