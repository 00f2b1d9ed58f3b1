"""Vectors computed before, in place of a model: `vectors` files joined by text hash."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching import schema
from fletching.encode import memmap_buffer
from fletching.encode.memmap_buffer import Vectors
from fletching.errors import InputError
from fletching.io import Reader
from fletching.prompts import QueryPrompts
from fletching.protocols import Lineage, Role
from fletching.report import Progress, Report
from fletching.table.key_set import find_sorted
from fletching.text import text_hash

HASH = np.dtype([("high", np.uint64), ("low", np.uint64)])  # 128 bits
COMPARED_ROWS = 4096  # at a time
ROUNDING = 5e-3  # of a unit vector's numbers: one text encoded in two batches, in bfloat16
Hashes = npt.NDArray[np.void]


class PrecomputedEmbeddings:
    """A `TextEncoder` that looks vectors up.

    On disk: 4 bytes a value. In memory: 150 bytes a text.

    Raises InputError for a text whose vector is missing, and for files of different dimensions.
    """

    def __init__(
        self,
        files: Sequence[str],
        report: Report,
        query_prompt: str | None = None,
        doc_prompt: str | None = None,
        prompt_template: str | None = None,
    ) -> None:
        self.row_prompts = QueryPrompts(prompt_template, report)
        reader = Reader(report, files, "vectors", count=False)
        self.files = ", ".join(source.where for source in reader.sources)
        self.prompts: dict[Role, str] = {
            "query": query_prompt or "",
            "document": doc_prompt or "",
        }
        self.devices = ["cpu"]
        self.blocks: list[Vectors] = []  # one for each batch of the files
        hashes: list[Hashes] = []
        for batch in reader:
            self.blocks.append(_normalise(schema.column(batch, "vector", pa.null())))
            hashes.append(_parse_hashes(batch["text_hash"].to_pylist()))
            memmap_buffer.release_pages(self.blocks[-1])
        if not self.blocks:
            raise InputError(f"{self.files} holds no vectors", "name a file with rows")
        self.dimension: int = self.blocks[0].shape[1]
        sizes = [len(block) for block in self.blocks]
        self.block_of_row = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        self.row_in_block = np.concatenate([np.arange(size) for size in sizes])
        self.hashes = np.concatenate(hashes)
        # 64 bits tell a billion texts apart; all 128 are compared after the look-up.
        self.keys, self.row_of_key = np.unique(self.hashes["high"], return_index=True)
        self._check_repeated()

    def _check_repeated(self) -> None:
        """Raise InputError where one hash has two vectors that differ by more than rounding."""
        if len(self.keys) == len(self.hashes):
            return
        first_rows = self.row_of_key[np.searchsorted(self.keys, self.hashes["high"])]
        repeated = np.flatnonzero(
            (first_rows != np.arange(len(first_rows))) & (self.hashes[first_rows] == self.hashes)
        )
        for start in range(0, len(repeated), COMPARED_ROWS):
            rows = repeated[start : start + COMPARED_ROWS]
            first = first_rows[rows]
            gap = np.abs(self._gather(rows) - self._gather(first)).max(1)
            worst = int(gap.argmax())
            if gap[worst] > ROUNDING:
                high, low = self.hashes[rows[worst]].tolist()
                raise InputError(
                    f"{self.files}, row {rows[worst] + 1:,}: the text {high:016x}{low:016x} has "
                    f"another vector than in row {first[worst] + 1:,}",
                    "leave one of them out",
                )

    def __enter__(self) -> PrecomputedEmbeddings:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.blocks.clear()

    @property
    def settings(self) -> Lineage:
        """What decides the vectors, for the lineage: the files are its inputs."""
        return {"vectors": "given", "prompts": self.prompts}

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        prompts: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> Vectors:
        """Unit vectors of the texts, float32 (n, dimension), as Encoder.encode gives them."""
        if role == "query" and prompts:
            prompts = self.row_prompts.complete(prompts)
        prompted = [
            (self.prompts[role] if prompt is None else prompt) + text
            for text, prompt in zip(texts, prompts or [None] * len(texts))
        ]
        vectors = self._gather(self._find_rows(prompted, role))
        if progress:
            progress.advance(len(texts))
        return vectors

    def _find_rows(self, prompted: list[str], role: Role) -> npt.NDArray[np.int64]:
        """The row of each text (n,). Raises InputError where there is none."""
        wanted = _parse_hashes([text_hash(text) for text in prompted])
        positions = find_sorted(self.keys, wanted["high"])
        rows = self.row_of_key[positions]
        is_missing = (positions < 0) | (self.hashes[rows] != wanted)
        if is_missing.any():
            text = prompted[int(is_missing.argmax())]
            raise InputError(
                f"{self.files} has no vector for the {role} {text[:60]!r}",
                "add it (text_hash of prompt + text), or encode with --model alone",
            )
        return rows

    def _gather(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """The vectors of these rows, (n, D)."""
        vectors = np.empty((len(rows), self.dimension), np.float32)
        blocks = self.block_of_row[rows]
        for number in np.unique(blocks):
            in_block = blocks == number
            block = self.blocks[number]
            vectors[in_block] = block[self.row_in_block[rows[in_block]]]
            memmap_buffer.release_pages(block)
        return vectors


def _normalise(column: pa.FixedSizeListArray) -> Vectors:
    """The vectors of a column on disk, of unit length; a zero vector stays zero."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(column), column.type.list_size).astype(np.float32)
    # In float64: the squares of large and of small numbers are beyond float32.
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    units = memmap_buffer.allocate(*vectors.shape)
    np.divide(vectors, lengths, out=units, where=lengths > 0, casting="same_kind")
    return units


def _parse_hashes(hashes: Sequence[str]) -> Hashes:
    """Hex hashes as two 64-bit numbers each, (n,)."""
    content = bytes.fromhex("".join(hashes))
    return np.frombuffer(content, ">u8,>u8").astype(HASH)
