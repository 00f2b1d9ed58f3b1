"""Vectors computed before, in place of a model: `vectors` files joined by text hash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from fletching.encode import memmap_buffer
from fletching.encode.memmap_buffer import Vectors
from fletching.encode.stated_model import check_one_model, stated_prompts
from fletching.errors import InputError
from fletching.io import Reader
from fletching.prompts import QueryPrompts
from fletching.protocols import Lineage, Role
from fletching.report import Progress, Report
from fletching.table.key_set import KeySet, find_sorted
from fletching.text import text_hash

HASH = np.dtype([("high", np.uint64), ("low", np.uint64)])  # 128 bits
COMPARED_ROWS = 4096  # at a time
CACHED_ROWS = 256  # normalised at a time, in the processor's cache
ROUNDING = 5e-3  # of a unit vector's numbers: one text encoded in two batches, in bfloat16
Hashes = npt.NDArray[np.void]

# The prompted texts, list by list, whose vectors will be looked up.
WantedTexts = Callable[["PrecomputedEmbeddings"], Iterable[list[str]]]


class PrecomputedEmbeddings:
    """A `TextEncoder` that looks vectors up.

    On disk: 4 bytes a value. In memory: 150 bytes a text. digest: of hashes and vectors in order.
    wanted: the prompted texts of the run, where the files hold many more: others are read over.
    The prompts are those given, else those that the lineage of the files states.

    Raises InputError for a text whose vector is missing, and for files of different
    dimensions or models.
    """

    def __init__(
        self,
        files: Sequence[str],
        report: Report,
        query_prompt: str | None = None,
        doc_prompt: str | None = None,
        prompt_template: str | None = None,
        wanted: WantedTexts | None = None,
    ) -> None:
        self.row_prompts = QueryPrompts(prompt_template, report)
        reader = Reader(report, files, "vectors", count=False)
        self.files = ", ".join(source.where for source in reader.sources)
        check_one_model([source.where for source in reader.sources], reader.lineage_nodes)
        self.prompts = stated_prompts(reader.lineage_nodes)
        if query_prompt is not None:
            self.prompts["query"] = query_prompt
        if doc_prompt is not None:
            self.prompts["document"] = doc_prompt
        self.devices = ["cpu"]
        self.digest = xxhash.xxh3_128()
        is_wanted = None if wanted is None else _keys(wanted(self)).contains
        hashes: list[Hashes] = []

        def blocks() -> Iterator[Vectors]:
            """The vectors of each batch; its hashes are noted as it passes."""
            for batch in reader:
                hashes.append(_parse_hashes(batch["text_hash"].to_pylist()))
                column = batch["vector"]
                if is_wanted is not None:
                    kept = is_wanted(hashes[-1]["high"])
                    hashes[-1], column = hashes[-1][kept], column.filter(pa.array(kept))
                vectors = _normalise(column)
                self.digest.update(hashes[-1].tobytes())
                self.digest.update(vectors.data)
                yield vectors

        kind = reader.columns.field("vector").type
        self.dimension: int = kind.list_size if pa.types.is_fixed_size_list(kind) else 0
        self.vectors = memmap_buffer.store(blocks(), self.dimension)
        if not hashes:
            raise InputError(f"{self.files} holds no vectors", "name a file with rows")
        self.hashes = np.concatenate(hashes)
        hashes.clear()
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
        self.vectors = self.vectors[:0]

    @property
    def settings(self) -> Lineage:
        """What decides the vectors, for the lineage: the files are its inputs."""
        return {"vectors": "given", "prompts": self.prompts}

    def prompted(
        self, texts: Sequence[str], role: Role, prompts: Sequence[str | None] | None = None
    ) -> list[str]:
        """The texts after the prompts of their rows or role, whose hashes are looked up."""
        if role == "query" and prompts:
            prompts = self.row_prompts.complete(prompts)
        return [
            (self.prompts[role] if prompt is None else prompt) + text
            for text, prompt in zip(texts, prompts or [None] * len(texts))
        ]

    def flush(self) -> None:
        """Nothing: all vectors are on disk."""

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        prompts: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> Vectors:
        """Unit vectors of the texts, float32 (n, dimension), as Encoder.encode gives them."""
        prompted = self.prompted(texts, role, prompts)
        vectors = self._gather(self._find_rows(prompted, role))
        if progress:
            progress.advance(len(texts))
        return vectors

    def _find_rows(self, prompted: list[str], role: Role) -> npt.NDArray[np.int64]:
        """The row of each text (n,). Raises InputError where there is none."""
        wanted = _parse_hashes([text_hash(text) for text in prompted])
        positions = find_sorted(self.keys, wanted["high"])
        is_missing = positions < 0
        known = np.flatnonzero(~is_missing)  # none, where no vector was kept
        rows = np.zeros(len(wanted), np.int64)
        rows[known] = self.row_of_key[positions[known]]
        is_missing[known] = self.hashes[rows[known]] != wanted[known]
        if is_missing.any():
            text = prompted[int(is_missing.argmax())]
            raise InputError(
                f"{self.files} has no vector for the {role} {text[:60]!r}",
                "add it (text_hash of prompt + text), or encode with --model alone",
            )
        return rows

    def _gather(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """The vectors of these rows, (n, D)."""
        order = np.argsort(rows)  # the file is read forward
        vectors = np.empty((len(rows), self.dimension), np.float32)
        vectors[order] = self.vectors[rows[order]]
        memmap_buffer.release_pages(self.vectors)
        return vectors


def _keys(prompted: Iterable[list[str]]) -> KeySet:
    """The first 64 bits of the hash of each text."""
    keys = [np.zeros(0, np.uint64)]
    for texts in prompted:
        keys.append(_parse_hashes([text_hash(text) for text in texts])["high"])
    return KeySet(np.concatenate(keys))


def _normalise(column: pa.FixedSizeListArray) -> Vectors:
    """The vectors of a column, of unit length; a zero vector stays zero."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(column), column.type.list_size)
    units = np.zeros(vectors.shape, np.float32)
    for start in range(0, len(vectors), CACHED_ROWS):
        rows = slice(start, start + CACHED_ROWS)
        # In float64: the squares of large and of small numbers are beyond float32.
        exact = vectors[rows].astype(np.float32).astype(np.float64)
        lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        np.divide(exact, lengths, out=units[rows], where=lengths > 0, casting="same_kind")
    return units


def _parse_hashes(hashes: Sequence[str]) -> Hashes:
    """Hex hashes as two 64-bit numbers each, (n,)."""
    content = bytes.fromhex("".join(hashes))
    return np.frombuffer(content, ">u8,>u8").astype(HASH)
