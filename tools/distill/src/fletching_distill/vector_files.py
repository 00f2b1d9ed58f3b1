"""Teachers whose vectors were computed before: `vectors` files, or a plain array."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from fletching import schema
from fletching.encode.stated_model import check_one_model, stated_prompts
from fletching.errors import InputError, UsageError
from fletching.io import Reader
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.text import text_hash
from fletching_distill.targets import unit_vectors
from fletching_distill.teacher import Floats, Prompts, VectorBatches
from fletching_distill.text_dataset import TextDataset

CHUNK = 4096  # rows of an array that are hashed together
HEAD = 8  # numbers of a vector, at length 1, by which it is compared with another of its text
ROUNDING = 5e-3  # of such a number: one text encoded in two batches, in bfloat16
FLOAT_BYTES = 4  # of a headerless file


class VectorFilesTeacher:
    """`vectors` of any program, a file or folder of shards, joined by the hash of prompt and text.

    prompts: those that the vectors were made with, by role; where one is absent, what the files
    state. allow_extra: accept vectors of other texts.
    """

    def __init__(self, path: str, prompts: Prompts, *, allow_extra: bool) -> None:
        self.name, self.allow_extra = path, allow_extra
        reader = Reader(Report("distill", quiet=True), [path], "vectors", count=False)
        check_one_model([source.where for source in reader.sources], reader.lineage_nodes)
        stated = stated_prompts(reader.lineage_nodes)
        self.prompts: dict[str, str] = {role: text for role, text in stated.items()}
        self.prompts.update(prompts)
        self.dimension: int = reader.columns.field("vector").type.list_size
        self.digest = xxhash.xxh3_128()

    @property
    def identity(self) -> Lineage:
        """Known once all vectors were read."""
        return {"vectors": self.digest.hexdigest(), "prompts": dict(self.prompts)}

    def vectors(self, texts: TextDataset, report: Report) -> VectorBatches:
        """Those of the texts. Raises InputError, with counts, unless both are of the same texts."""
        numbers_by_hash = self._numbers_by_hash(texts)
        has_vector = np.zeros(len(texts), bool)
        heads = np.zeros((len(texts), HEAD), np.float32)  # of the vector of each text
        extra = ExtraVectors()
        first_row = 0
        for batch in Reader(report, [self.name], "vectors", count=False):
            column = schema.column(batch, "vector", pa.null())
            flat = column.flatten().to_numpy(zero_copy_only=False)
            vectors: Floats = flat.reshape(len(column), -1)
            self.digest.update(np.ascontiguousarray(vectors).data)

            hashes = batch["text_hash"].to_pylist()
            ids = schema.column(batch, "id", pa.string()).to_pylist()
            rows: list[int] = []
            numbers: list[int] = []
            for row, (text_hash_of_row, text_id) in enumerate(zip(hashes, ids)):
                matching = numbers_by_hash.get(bytes.fromhex(text_hash_of_row), [])
                rows += [row] * len(matching)
                numbers += matching
                if not matching:
                    extra.add(text_id)
            self._check_nonzero(vectors[rows])
            units = unit_vectors(vectors)[:, :HEAD]
            for row, number in zip(rows, numbers):
                head = units[row]
                if (
                    has_vector[number]
                    and np.abs(heads[number, : len(head)] - head).max() > ROUNDING
                ):
                    raise InputError(
                        f"{self.name}, row {first_row + row + 1:,}: the text {hashes[row]} has "
                        "another vector in a row before",
                        "leave one of them out",
                    )
                has_vector[number] = True
                heads[number, : len(head)] = head
            first_row += len(batch)
            yield np.array(numbers, np.int64), vectors[rows]
        self._check_complete(texts, has_vector, extra)

    def _numbers_by_hash(self, texts: TextDataset) -> dict[bytes, list[int]]:
        numbers: dict[bytes, list[int]] = {}
        number = 0
        for part in texts.parts():
            for text in part:
                key = bytes.fromhex(text_hash(text.prompted(self.prompts)))
                numbers.setdefault(key, []).append(number)
                number += 1
        return numbers

    def _check_nonzero(self, vectors: Floats) -> None:
        if len(vectors) and not np.abs(vectors).max(1).all():
            raise InputError(f"{self.name} holds a vector of zeros", "make the vectors again")

    def _check_complete(
        self, texts: TextDataset, has_vector: npt.NDArray[np.bool_], extra: ExtraVectors
    ) -> None:
        """Raise InputError, with counts and the likely reason, for missing or extra vectors."""
        missing = [texts[int(number)] for number in np.flatnonzero(~has_vector)]
        if missing:
            changed = sum(text.id in extra.ids for text in missing)
            reason = ""
            if changed:
                reason = f"; {changed:,} of them are there by id, with another text or prompt"
            raise InputError(
                f"{self.name} has no vector for {len(missing):,} of {len(has_vector):,} texts, "
                f"the first {missing[0].text[:40]!r}, and {extra.count:,} for no text of the input"
                f"{reason}",
                "were they made with a prompt? pass it as --teacher-query-prompt and "
                "--teacher-doc-prompt; else encode again",
            )
        if extra.count and not self.allow_extra:
            raise InputError(
                f"{self.name} has {extra.count:,} vectors for no text of the input",
                "pass the texts that it was made of, or --allow-extra",
            )


@dataclass
class ExtraVectors:
    """Vectors of texts that are not in the input: how many, and the ids of those that have one."""

    count: int = 0
    ids: set[str] = field(default_factory=set)

    def add(self, text_id: str | None) -> None:
        """Count one."""
        self.count += 1
        if text_id:
            self.ids.add(text_id)


class ArrayTeacher:
    """A plain array, row i for row i of the input: `.npy`, or headerless float32 rows.

    dimension: of headerless rows. rows: of the input. is_row_aligned: are its rows texts?
    Raises InputError or UsageError where array and input do not match.
    """

    def __init__(
        self, path: str, dimension: int | None, *, rows: int, is_row_aligned: bool
    ) -> None:
        self.name = path
        if not is_row_aligned:
            raise UsageError(
                f"--vectors {path} goes by row, but the input is examples",
                "pass the texts that it was made of, one a row",
            )
        self.array = open_array(path, dimension)
        self.dimension: int = self.array.shape[1]
        if len(self.array) != rows:
            fix = "pass the texts that it was made of"
            if dimension:
                fix += "; check --teacher-dim"
            raise InputError(
                f"{path} has {len(self.array):,} rows of {self.dimension}, "
                f"but the input has {rows:,} texts",
                fix,
            )

    @property
    def identity(self) -> Lineage:
        """The hash of the array."""
        digest = xxhash.xxh3_128()
        for start in range(0, len(self.array), CHUNK):
            digest.update(np.ascontiguousarray(self.array[start : start + CHUNK]).data)
        return {"array": digest.hexdigest()}

    def vectors(self, texts: TextDataset, report: Report) -> VectorBatches:
        """The row of each text. Raises InputError for one that is zero or not finite."""
        start = 0
        for part in texts.parts():
            rows = np.array([text.row for text in part], np.int64)
            vectors = self.array[rows].astype(np.float32)
            is_valid = np.isfinite(vectors).all(1) & vectors.any(1)
            invalid = rows[~is_valid]
            if len(invalid):
                raise InputError(
                    f"{self.name}, row {invalid[0] + 1:,}: the vector is zero or not finite "
                    f"({len(invalid):,} such rows)",
                    "was the file written to its end? make it again",
                )
            yield start + np.arange(len(part)), vectors
            start += len(part)


def open_array(path: str, dimension: int | None) -> Floats:
    """An array (rows, dimension), memory-mapped.

    Raises InputError where the file is none, UsageError where it has no header and no dimension.
    """
    return _open_npy(path, dimension) if path.endswith(".npy") else _open_raw(path, dimension)


def _open_npy(path: str, dimension: int | None) -> Floats:
    try:
        array: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
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


def _open_raw(path: str, dimension: int | None) -> Floats:
    if not dimension:
        raise UsageError(f"--vectors {path} has no header", "pass its dimension: --teacher-dim N")
    size, row_size = os.path.getsize(path), FLOAT_BYTES * dimension
    if not size or size % row_size:
        raise InputError(
            f"{path} has {size:,} bytes, which is no whole number of rows of {dimension} float32",
            "pass the right --teacher-dim",
        )
    return np.memmap(path, np.float32, "r", shape=(size // row_size, dimension))
