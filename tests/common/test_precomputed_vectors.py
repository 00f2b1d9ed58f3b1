"""Vectors from files: one hash has one vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.encode.precomputed import PrecomputedEmbeddings
from fletching.errors import InputError
from fletching.report import Report
from fletching.text import text_hash

NAMES = ("owl", "bread", "owl")


def write_vectors(path: Path, vectors: list[list[float]]) -> str:
    hashes = pa.array([text_hash(name) for name in NAMES])
    flat = pa.array(np.array(vectors, np.float32).ravel())
    values = pa.FixedSizeListArray.from_arrays(flat, len(vectors[0]))
    pq.write_table(pa.table({"text_hash": hashes, "vector": values}), path)
    return str(path)


def test_two_vectors_of_one_hash_are_refused_with_hash_and_row(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.parquet", [[1, 0], [0, 1], [0, 1]])
    with pytest.raises(InputError) as error:
        PrecomputedEmbeddings([path], Report("t", quiet=True))
    assert f"row 3: the text {text_hash('owl')} has another vector than in row 1" in str(
        error.value
    )


def test_equal_vectors_of_one_hash_and_large_numbers_are_taken(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.parquet", [[1e30, 0], [0, 1e-30], [1e30, 1e20]])
    with PrecomputedEmbeddings([path], Report("t", quiet=True)) as embeddings:
        assert embeddings.encode(["owl", "bread"], "document").tolist() == [[1, 0], [0, 1]]
