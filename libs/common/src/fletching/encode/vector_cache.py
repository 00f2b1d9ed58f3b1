"""The vector cache: vectors on disk by what decides them, so that no text is encoded twice.

`VectorCache` is what an encoder, a reranker and an embedding server use; `open_cache` chooses
one. `ArrowVectorCache` writes one folder for each (model, length, dtype), one `vectors` file
for each shard, whole, and maps it back. A killed run loses the shard it was filling. In memory:
about 120 bytes a text. Another kind of cache is another class and its line in `open_cache`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching import schema
from fletching.encode.temporary_cache import TemporaryCache
from fletching.io import Reader, Writer
from fletching.io.formats import STDOUT_JSONL
from fletching.options import CacheOptions
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.table import atomic

Vector = npt.NDArray[np.floating]  # (D,), or vectors (n, D)

SHARD_SECONDS = 5.0  # write a shard at least this often, so that a kill loses seconds
SHARD_ROWS = 65_536


class VectorCache(Protocol):
    """Vectors by text hash."""

    @property
    def pending(self) -> int:
        """Vectors that a kill would lose."""

    def get(self, text_hash: str) -> Vector | None:
        """The vector (D,) of a text; None where it is not kept."""

    def put(self, hashes: Sequence[str], vectors: Vector) -> None:
        """Keep the float32 vectors (n, D) of one forward pass."""

    def flush(self) -> None:
        """Write what is pending."""


def open_cache(
    folder: str | None, key: str, settings: Lineage, *, half: bool = False
) -> VectorCache:
    """The cache in `folder` of vectors that `settings` decide.

    folder: None keeps nothing. key: a name for these settings, unique in the folder. half:
    vectors are kept, and come back, as float16.
    """
    if folder is None:
        return NoVectorCache()
    return ArrowVectorCache(os.path.join(folder, key), settings, half=half)


class CacheFolder:
    """Where the caches of one run lie: in --cache, or beside the output until the run succeeds.

    One that was not asked for is removed by `close` after success; caches are flushed
    otherwise.
    """

    def __init__(self, options: CacheOptions) -> None:
        self.path = options.cache or default_cache_dir(options)
        self.temporary: TemporaryCache | None = None
        if options.cache is None and self.path:
            self.temporary = TemporaryCache(self.path)
        self.caches: list[VectorCache] = []

    def open(self, key: str, settings: Lineage, *, half: bool = False) -> VectorCache:
        """A cache in this folder, as `open_cache` opens it."""
        cache = open_cache(self.path, key, settings, half=half)
        self.caches.append(cache)
        return cache

    def close(self, *, succeeded: bool) -> None:
        """Flush the caches, or remove the folder where it has served its purpose."""
        try:
            if not (succeeded and self.temporary):
                for cache in self.caches:
                    cache.flush()
        except OSError:
            if succeeded:
                raise
            # The first failure, such as the same full disk, is what the user reads.
        finally:
            if self.temporary:
                self.temporary.close(succeeded=succeeded)


def default_cache_dir(options: object) -> str | None:
    """The folder of vectors without --cache: beside the output; None where that is no file."""
    output = getattr(options, "output", None)
    if not output or output in ("-", STDOUT_JSONL) or atomic.is_special(output):
        return None
    return f"{output}.cache"


class NoVectorCache:
    """Keeps nothing: every look-up misses."""

    pending = 0

    def get(self, text_hash: str) -> None:
        """None."""

    def put(self, hashes: Sequence[str], vectors: Vector) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


class ArrowVectorCache:
    """Vectors in a folder of `vectors` files (shards), read back memory-mapped."""

    def __init__(self, folder: str, settings: Lineage, *, half: bool = False) -> None:
        self.folder = folder
        self.settings = settings
        self.dtype = np.float16 if half else np.float32
        self.positions: dict[bytes, tuple[int, int]] = {}  # text hash: (shard, row)
        self.shards: list[Vector] = []
        self.fresh: dict[str, Vector] = {}  # not yet written
        self.last_write = time.monotonic()
        os.makedirs(folder, exist_ok=True)
        for name in sorted(os.listdir(folder)):
            if name.endswith(".arrow") and not name.startswith("."):
                self._load_shard(os.path.join(folder, name))

    @property
    def pending(self) -> int:
        """Vectors that a kill would lose."""
        return len(self.fresh)

    def get(self, text_hash: str) -> Vector | None:
        """The vector (D,) of a text; None where it is not kept."""
        # A text keeps the vector of its first batch, written or not; otherwise the bytes of a
        # run would depend on when a shard was written.
        position = self.positions.get(bytes.fromhex(text_hash))
        if position is None:
            return self.fresh.get(text_hash)
        shard, row = position
        vector: Vector = self.shards[shard][row]
        return vector

    def put(self, hashes: Sequence[str], vectors: Vector) -> None:
        """Keep the float32 vectors (n, D) of one forward pass."""
        self.fresh.update(zip(hashes, vectors.astype(self.dtype, copy=False)))
        seconds = time.monotonic() - self.last_write
        if len(self.fresh) >= SHARD_ROWS or seconds > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as one shard."""
        if not self.fresh:
            return
        hashes = list(self.fresh)
        vectors = np.stack(list(self.fresh.values()))
        path = os.path.join(self.folder, f"{hashes[0]}-{len(hashes)}.arrow")
        self._write_shard(path, hashes, vectors)
        self.fresh = {}
        self._load_shard(path)
        self.last_write = time.monotonic()

    def _write_shard(self, path: str, hashes: list[str], vectors: Vector) -> None:
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        columns = pa.schema(
            [
                pa.field("text_hash", pa.string(), nullable=False),
                pa.field("vector", values.type, nullable=False),
            ]
        )
        with Writer(
            _silent_report(),
            path,
            "vectors",
            columns=columns,
            version="1",
            options=self.settings,
            count=False,
        ) as writer:
            batch = pa.RecordBatch.from_arrays([pa.array(hashes), values], schema=columns)
            writer.write(batch)

    def _load_shard(self, path: str) -> None:
        """Map a shard and note where each of its vectors lies."""
        for batch in Reader(_silent_report(), [path], "vectors", count=False):
            values = schema.column(batch, "vector", pa.null())
            vectors = values.flatten().to_numpy().reshape(len(values), -1)
            shard = len(self.shards)
            for row, text_hash in enumerate(batch["text_hash"].to_pylist()):
                self.positions[bytes.fromhex(text_hash)] = (shard, row)
            self.shards.append(vectors)


def _silent_report() -> Report:
    """Reading and writing shards is no news to the user."""
    return Report("fletching.encode", quiet=True)
