"""Vectors that the user brings, in place of a model: `vectors` files joined by text hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import schema
from fletching.encode import memmap_buffer
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Progress, Report
from fletching.text import text_hash


class PrecomputedEmbeddings:
    """Stands where an Encoder stands. On disk: 4 bytes a value; in memory: 150 bytes a text.

    Raises InputError for a text whose vector is missing, and for files of different dimensions.
    """

    def __init__(
        self,
        files: Sequence[str],
        report: Report,
        query_prompt: str | None = None,
        doc_prompt: str | None = None,
    ) -> None:
        reader = Reader(report, files, "vectors", count=False)
        self.files = ", ".join(source.where for source in reader.sources)
        self.prompts = {"query": query_prompt or "", "document": doc_prompt or ""}
        self.devices = ["cpu"]
        parts: list[np.ndarray] = []
        hashes: list[np.ndarray] = []
        for batch in reader:
            values = schema.column(batch, "vector", pa.null())
            parts.append(memmap_buffer.allocate(len(values), values.type.list_size))
            vectors = (
                values.flatten()
                .to_numpy(zero_copy_only=False)
                .reshape(parts[-1].shape)
                .astype(np.float32)
            )
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            np.divide(vectors, lengths, out=parts[-1], where=lengths > 0)
            hashes.append(_packed(batch["text_hash"].to_pylist()))
            memmap_buffer.release_pages(parts[-1])
        if not parts:
            raise InputError(f"{self.files} holds no vectors", "name a file with rows")
        self.dimension = parts[0].shape[1]
        self.parts, self.starts = parts, np.cumsum([0, *map(len, parts)])
        every = np.concatenate(hashes)
        self.order = np.argsort(
            every["high"], kind="stable"
        )  # 64 bits tell a billion texts apart; all 128 are compared
        self.hashes, self.high = every[self.order], np.ascontiguousarray(every["high"][self.order])

    def __enter__(self) -> PrecomputedEmbeddings:
        return self

    def __exit__(self, *failure: object) -> None:
        self.parts.clear()

    @property
    def settings(self) -> dict[str, Any]:
        return {"vectors": "given", "prompts": self.prompts}

    def encode(
        self,
        texts: Sequence[str],
        role: str,
        prompts: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Unit vectors of the texts, float32 [len(texts), dimension], as Encoder.encode gives them."""
        prompted = [
            (self.prompts[role] if prompt is None else prompt) + text
            for text, prompt in zip(texts, prompts or [None] * len(texts))
        ]
        asked = _packed([text_hash(text) for text in prompted])
        places = np.minimum(np.searchsorted(self.high, asked["high"]), len(self.high) - 1)
        missing = np.flatnonzero(self.hashes[places] != asked)
        if len(missing):
            raise InputError(
                f"{self.files} has no vector for the {role} {prompted[missing[0]][:60]!r}",
                "add it (text_hash of prompt + text), or encode with --model alone",
            )
        rows = self.order[places]
        result = np.empty((len(texts), self.dimension), np.float32)
        part = np.searchsorted(self.starts, rows, "right") - 1
        for number in np.unique(part):
            mine = part == number
            result[mine] = self.parts[number][rows[mine] - self.starts[number]]
            memmap_buffer.release_pages(self.parts[number])
        if progress:
            progress.advance(len(texts))
        return result


def _packed(hashes: Sequence[str]) -> np.ndarray:
    """Hex hashes as two numbers each."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), ">u8,>u8").astype(
        [("high", np.uint64), ("low", np.uint64)]
    )
