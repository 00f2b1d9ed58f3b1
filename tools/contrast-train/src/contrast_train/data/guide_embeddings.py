"""The vectors of a guide model, which finds false negatives: each distinct text encoded once,
on disk.

In memory: 9 bytes a distinct text. On disk: 4 x E bytes, and the encoder's cache while the
run lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from contrast_train.data.dataset import TrainingDataset
from fletching.encode import Encoder
from fletching.encode.memmap_buffer import allocate
from fletching.options import EncodingOptions
from fletching.protocols import Role
from fletching.report import Progress, Report
from fletching.table import KeySet

WINDOW = 4096  # texts encoded at a time


class GuideEmbeddings:
    """(queries, documents) -> their unit vectors (Q, E) and (N, E), for texts of the data set
    alone.
    """

    def __init__(self, dataset: TrainingDataset, options: EncodingOptions, report: Report) -> None:
        self.keys: dict[Role, KeySet] = {
            "query": _key_set(dataset.column("query")),
            "document": _key_set(_documents(dataset)),
        }
        self.vectors: dict[Role, npt.NDArray[np.float32]] = {}
        total = sum(map(len, self.keys.values()))
        with (
            Encoder(options, report) as encoder,
            report.progress("guide", total, "texts") as progress,
        ):
            self.fingerprint = encoder.fingerprint
            self._encode(encoder, "query", dataset.column("query"), progress=progress)
            self._encode(encoder, "document", _documents(dataset), progress=progress)

    def _encode(
        self, encoder: Encoder, role: Role, texts: Iterable[str], *, progress: Progress
    ) -> None:
        keys = self.keys[role]
        vectors = allocate(len(keys), encoder.dimension)
        for positions, window in _distinct_windows(texts, keys):
            vectors[positions] = encoder.encode(window, role, progress=progress)
        self.vectors[role] = vectors

    def __call__(self, queries: list[str], documents: list[str]) -> tuple[Tensor, Tensor]:
        """The vectors of texts without prompts."""
        return self._vectors_of("query", queries), self._vectors_of("document", documents)

    def _vectors_of(self, role: Role, texts: list[str]) -> Tensor:
        positions = self.keys[role].positions(_keys(texts))
        return torch.from_numpy(self.vectors[role][positions])


def _documents(dataset: TrainingDataset) -> Iterator[str]:
    for name in ("pos", "neg"):
        for texts in dataset.column(name):
            yield from texts or []


def _distinct_windows(texts: Iterable[str], keys: KeySet) -> Iterator[tuple[list[int], list[str]]]:
    """Every distinct text once, in order, in windows, with its position in `keys`."""
    is_seen = np.zeros(len(keys), bool)
    positions: list[int] = []
    window: list[str] = []
    for text in texts:
        position = int(keys.positions(_keys([text]))[0])
        if is_seen[position]:
            continue
        is_seen[position] = True
        positions.append(position)
        window.append(text)
        if len(window) == WINDOW:
            yield positions, window
            positions, window = [], []
    if window:
        yield positions, window


def _key_set(texts: Iterable[str]) -> KeySet:
    return KeySet(_keys(texts))


def _keys(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    return np.fromiter((xxhash.xxh3_64_intdigest(text.encode()) for text in texts), np.uint64)
