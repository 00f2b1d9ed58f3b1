"""Vectors that the user brings, in place of a model: `vectors` files joined by text hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import schema
from fletching.encode import store
from fletching.errors import Refused
from fletching.report import Progress, Report
from fletching.stream import Reader
from fletching.text import text_hash


class Given:
    """Stands where an Encoder stands. On disk: 4 bytes a value; in memory: 150 bytes a text.

    Raises Refused for a text whose vector is missing, and for files of different dimensions.
    """

    def __init__(self, files: Sequence[str], report: Report, query_prompt: str | None = None, doc_prompt: str | None = None) -> None:
        reader = Reader(report, files, "vectors", count=False)
        self.files = ", ".join(source.where for source in reader.sources)
        self.prompts = {"query": query_prompt or "", "document": doc_prompt or ""}
        self.devices = ["cpu"]
        self.where: dict[bytes, int] = {}
        self.parts: list[np.ndarray] = []
        for batch in reader:
            values = schema.column(batch, "vector", pa.null())
            part = store.room(len(values), values.type.list_size)
            part[:] = values.flatten().to_numpy(zero_copy_only=False).reshape(part.shape)
            lengths = np.linalg.norm(part, axis=1, keepdims=True)
            np.divide(part, lengths, out=part, where=lengths > 0)
            for row, name in enumerate(batch["text_hash"].to_pylist()):
                self.where.setdefault(bytes.fromhex(name), (len(self.parts) << 32) + row)
            self.parts.append(part)
        if not self.parts:
            raise Refused(f"{self.files} holds no vectors", "name a file with rows")
        self.dimension = self.parts[0].shape[1]
        self.sources = [reader]

    def __enter__(self) -> Given:
        return self

    def __exit__(self, *failure: object) -> None:
        self.parts.clear()

    @property
    def settings(self) -> dict[str, Any]:
        return {"vectors": "given", "prompts": self.prompts}

    def encode(self, texts: Sequence[str], role: str, prompts: Sequence[str | None] | None = None, progress: Progress | None = None) -> np.ndarray:
        """Unit vectors of the texts, float32 [len(texts), dimension], as Encoder.encode gives them."""
        result = np.empty((len(texts), self.dimension), np.float32)
        for row, (text, prompt) in enumerate(zip(texts, prompts or [None] * len(texts))):
            prompted = (self.prompts[role] if prompt is None else prompt) + text
            place = self.where.get(bytes.fromhex(text_hash(prompted)))
            if place is None:
                raise Refused(f"{self.files} has no vector for the {role} {prompted[:60]!r}", "add it (text_hash of prompt + text), or encode with --model alone")
            result[row] = self.parts[place >> 32][place & 0xFFFF_FFFF]
        if progress:
            progress.advance(len(texts))
        return result
