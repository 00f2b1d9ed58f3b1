"""Vectors on disk: `vectors` shards keyed by what decides them, so that no text is encoded twice.

One folder for each (model, length, number type), one Arrow file for each shard, written whole and read
back memory-mapped. A killed run loses the shard it was filling. In memory: about 120 bytes a text.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import schema
from fletching.io import Reader, Writer
from fletching.report import Report

SHARD_SECONDS = 5.0  # write what there is this often, so that a kill loses seconds
SHARD_ROWS = 65_536


class VectorCache:
    """Vectors by text hash. `folder` None keeps them nowhere: every look-up misses.

    half: they are kept as float16, and come back so.
    """

    def __init__(
        self, folder: str | None, key: str, lineage_options: dict[str, Any], *, half: bool = False
    ) -> None:
        self.folder = os.path.join(folder, key) if folder else None
        self.stored = np.float16 if half else np.float32
        self.options = lineage_options
        self.where: dict[bytes, tuple[int, int]] = {}  # hash: shard, row
        self.shards: list[np.ndarray] = []
        self.fresh: dict[str, np.ndarray] = {}  # not yet written
        self.written = time.monotonic()
        if self.folder:
            os.makedirs(self.folder, exist_ok=True)
            for name in sorted(os.listdir(self.folder)):
                if name.endswith(".arrow") and not name.startswith("."):
                    self._load(os.path.join(self.folder, name))

    def get(self, text_hash: str) -> np.ndarray | None:
        # A text has the vector of its first batch, written or not: else the bytes would depend on when a shard was written.
        place = self.where.get(bytes.fromhex(text_hash))
        return self.fresh.get(text_hash) if place is None else self.shards[place[0]][place[1]]

    def put(self, hashes: Sequence[str], vectors: np.ndarray) -> None:
        """Take float32 vectors [n, D] of one forward pass."""
        if not self.folder:
            return
        self.fresh.update(zip(hashes, vectors.astype(self.stored, copy=False)))
        if len(self.fresh) >= SHARD_ROWS or time.monotonic() - self.written > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        if not self.fresh or not self.folder:
            return
        hashes, vectors = list(self.fresh), np.stack(list(self.fresh.values()))
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        columns = pa.schema(
            [pa.field("text_hash", pa.string(), False), pa.field("vector", values.type, False)]
        )
        path = os.path.join(self.folder, f"{hashes[0]}-{len(hashes)}.arrow")
        report = Report("fletching.encode", quiet=True)
        with Writer(
            report, path, "vectors", columns, version="1", options=self.options, count=False
        ) as out:
            out.write(pa.RecordBatch.from_arrays([pa.array(hashes), values], schema=columns))
        self.fresh = {}
        self._load(path)
        self.written = time.monotonic()

    def _load(self, path: str) -> None:
        for batch in Reader(Report("fletching.encode", quiet=True), [path], "vectors", count=False):
            values = schema.column(batch, "vector", pa.null())
            shard = values.flatten().to_numpy().reshape(len(values), -1)
            self.where.update(
                (bytes.fromhex(name), (len(self.shards), row))
                for row, name in enumerate(batch["text_hash"].to_pylist())
            )
            self.shards.append(shard)
