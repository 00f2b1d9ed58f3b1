"""Where the teacher's vectors come from: a model, `vectors` files, a plain array, a server. One class each.

A teacher has `dimension`, `name`, `identity` (what decides its vectors, for the run's manifest) and `vectors`, which
gives (numbers of texts, their vectors) until every text has one, or refuses with counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import xxhash

from distill.text_dataset import Texts
from fletching import schema
from fletching.encode import Encoder
from fletching.errors import InputError, UsageError
from fletching.io import Reader
from fletching.options import EncodingOptions
from fletching.report import Report
from fletching.text import text_hash

Found = Iterator[tuple[np.ndarray, np.ndarray]]
CHUNK = 4096  # texts at a time


class Teacher(Protocol):
    name: str
    dimension: int

    @property
    def identity(self) -> dict[str, Any]: ...

    def vectors(self, texts: Texts, report: Report) -> Found: ...


class ModelTeacher:
    """A sentence-transformers model, run here; its vectors are kept as float16 shards until the run is done."""

    def __init__(self, options: EncodingOptions, report: Report) -> None:
        self.name = options.model
        try:
            self.encoder = Encoder(options, report, half_cache=True)
        except InputError as error:  # the encoder names the options that the other tools have
            raise type(error)(of_teacher(error.what), of_teacher(error.fix)) from error
        self.dimension = self.encoder.dimension

    @property
    def identity(self) -> dict[str, Any]:
        return self.encoder.settings

    def vectors(self, texts: Texts, report: Report) -> Found:
        with self.encoder, report.progress("encoding", len(texts), "texts") as progress:
            start = 0
            for part in texts.parts():
                for role in ("query", "document"):
                    mine = [place for place, text in enumerate(part) if text.role == role]
                    if mine:
                        given = [part[place] for place in mine]
                        found = self.encoder.encode(
                            [t.text for t in given], role, [t.prompt for t in given], progress
                        )  # type: ignore[arg-type]
                        # As from the cache, so that a run that goes on sees the same vectors.
                        yield start + np.array(mine), found.astype(np.float16)
                start += len(part)


class Files:
    """`vectors` files, joined by the hash of prompt and text. prompts: of "query" and "document", what they were made with."""

    def __init__(self, path: str, prompts: dict[str, str], *, allow_extra: bool) -> None:
        self.name, self.prompts, self.allow_extra = path, prompts, allow_extra
        self.paths = [path]
        reader = Reader(Report("distill", quiet=True), self.paths, "vectors", count=False)
        self.dimension = reader.columns.field("vector").type.list_size
        self.digest = xxhash.xxh3_128()

    @property
    def identity(self) -> dict[str, Any]:
        return {"vectors": self.digest.hexdigest(), "prompts": self.prompts}

    def vectors(self, texts: Texts, report: Report) -> Found:
        wanted: dict[bytes, list[int]] = {}
        for number, text in enumerate(text for part in texts.parts() for text in part):
            wanted.setdefault(key(text.prompted(self.prompts)), []).append(number)
        seen = np.zeros(len(texts), bool)
        extra, extra_ids = 0, set[str]()
        for batch in Reader(report, self.paths, "vectors", count=False):
            values = schema.column(batch, "vector", pa.null())
            rows = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
            self.digest.update(np.ascontiguousarray(rows).data)
            places, numbers = [], []
            for place, (name, own) in enumerate(
                zip(
                    batch["text_hash"].to_pylist(),
                    schema.column(batch, "id", pa.string()).to_pylist(),
                )
            ):
                found = wanted.get(bytes.fromhex(name))
                if found is None:
                    extra += 1
                    extra_ids |= {own} if own else set()
                else:
                    places += [place] * len(found)
                    numbers += found
            self._check(rows[places])
            seen[numbers] = True
            yield np.array(numbers, int), rows[places]
        self._account(texts, seen, extra, extra_ids)

    def _check(self, rows: np.ndarray) -> None:
        if len(rows) and not np.abs(rows).max(1).all():
            raise InputError(f"{self.name} holds a vector of zeros", "make the vectors again")

    def _account(self, texts: Texts, seen: np.ndarray, extra: int, extra_ids: set[str]) -> None:
        """Refuses, with counts and the likely reason, unless texts and vectors are the same."""
        missing = [texts[int(number)] for number in np.flatnonzero(~seen)]
        if missing:
            changed = sum(text.id in extra_ids for text in missing)
            why = (
                f"; {changed:,} of them stand there by id, with another text or prompt"
                if changed
                else ""
            )
            raise InputError(
                f"{self.name} has no vector for {len(missing):,} of {len(seen):,} texts, "
                f"the first {missing[0].text[:40]!r}, and {extra:,} for no text of the input{why}",
                "were they made with a prompt? pass it as --teacher-query-prompt and --teacher-doc-prompt; else encode again",
            )
        if extra and not self.allow_extra:
            raise InputError(
                f"{self.name} has {extra:,} vectors for no text of the input",
                "give the texts that it was made of, or pass --allow-extra",
            )


class Array:
    """A plain array, row i for row i of the texts: `.npy`, or a headerless float32 file with its dimension."""

    def __init__(self, path: str, dimension: int | None, *, rows: int, one_a_row: bool) -> None:
        self.name = path
        if not one_a_row:
            raise UsageError(
                f"--vectors {path} goes by row, but the input is examples",
                "give it the texts that it was made of, one a row",
            )
        self.array = open_array(path, dimension)
        self.dimension = self.array.shape[1]
        if len(self.array) != rows:
            raise InputError(
                f"{path} has {len(self.array):,} rows of {self.dimension}, but the input has {rows:,} texts",
                "give it the texts that it was made of"
                + ("; check --teacher-dim" if dimension else ""),
            )

    @property
    def identity(self) -> dict[str, Any]:
        digest = xxhash.xxh3_128()
        for start in range(0, len(self.array), CHUNK):
            digest.update(np.ascontiguousarray(self.array[start : start + CHUNK]).data)
        return {"array": digest.hexdigest()}

    def vectors(self, texts: Texts, report: Report) -> Found:
        start = 0
        for part in texts.parts():
            rows = np.array([text.row for text in part], int)
            found = self.array[rows].astype(np.float32)
            wrong = rows[~(np.isfinite(found).all(1) & found.any(1))]
            if len(wrong):
                raise InputError(
                    f"{self.name}, row {wrong[0] + 1:,}: the vector is zero or not finite ({len(wrong):,} such rows)",
                    "was the file written to its end? make it again",
                )
            yield start + np.arange(len(part)), found
            start += len(part)


def open_array(path: str, dimension: int | None) -> np.ndarray:
    """Memory-mapped (rows, dimension). Raises InputError where the file is none."""
    if path.endswith(".npy"):
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(
                f"{path} is no array that can be mapped: {error}", "write it with numpy.save"
            ) from None
        if array.ndim != 2 or array.dtype.kind != "f":
            raise InputError(
                f"{path} is {array.dtype} of shape {array.shape}",
                "save floats of shape (texts, dimension)",
            )
        if dimension and array.shape[1] != dimension:
            raise InputError(
                f"{path} has {array.shape[1]} dimensions, --teacher-dim says {dimension}",
                "pass the right one, or none",
            )
        return array
    if not dimension:
        raise UsageError(f"--vectors {path} has no header", "pass its dimension: --teacher-dim N")
    size = os.path.getsize(path)
    if not size or size % (4 * dimension):
        raise InputError(
            f"{path} has {size:,} bytes, which is no whole number of rows of {dimension} float32",
            "pass the right --teacher-dim",
        )
    return np.memmap(path, np.float32, "r", shape=(size // (4 * dimension), dimension))


def of_teacher(told: str) -> str:
    """
    >>> of_teacher("pass at most 512: --doc-length 600")
    'pass at most 512: --teacher-length 600'
    """
    return re.sub(r"--(query|doc)-length", "--teacher-length", told).replace(
        "--model ", "--teacher "
    )


def key(text: str) -> bytes:
    return bytes.fromhex(text_hash(text))
