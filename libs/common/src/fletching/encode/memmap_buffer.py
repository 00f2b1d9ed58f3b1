"""Vectors beyond memory: rows in a nameless temporary file, mapped, and products over them."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]  # (n, D)
RowNumbers = npt.NDArray[np.integer[Any]]

CHUNK_BYTES = 16 << 20  # gathered at a time by `pairwise_dot` and `block_dot`
FLOAT_BYTES = 4


def allocate(rows: int, dimension: int) -> Vectors:
    """Zeros (rows, dimension) in a nameless file, which is freed with the array."""
    if not rows * dimension:
        return np.zeros((rows, dimension), np.float32)
    with tempfile.TemporaryFile(prefix="fletching-") as file:
        file.truncate(rows * dimension * FLOAT_BYTES)
        mapped = np.memmap(file, np.float32, "r+", shape=(rows, dimension))
    return np.asarray(mapped)


def store(blocks: Iterable[Vectors], dimension: int) -> Vectors:
    """The blocks (n, dimension) end to end, in a nameless file, which is freed with the array.

    They are written, not assigned to mapped pages, which costs four times as much.
    """
    rows = 0
    with tempfile.TemporaryFile(buffering=0, prefix="fletching-") as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, np.float32).data)
            rows += len(block)
        if not rows * dimension:
            return np.zeros((rows, dimension), np.float32)
        mapped = np.memmap(file, np.float32, "r+", shape=(rows, dimension))
    return np.asarray(mapped)


def release_pages(vectors: Vectors) -> None:
    """Drop the pages of an `allocate`d array, or of a slice of one, from this process's memory.

    They come back from the file when they are touched.
    """
    buffer: Any = vectors
    while isinstance(buffer, np.ndarray):
        buffer = buffer.base
    if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        buffer.madvise(mmap.MADV_DONTNEED)


def pairwise_dot(
    left: Vectors, left_rows: RowNumbers, right: Vectors, right_rows: RowNumbers
) -> Vectors:
    """left[left_rows[i]] · right[right_rows[i]] for each i, float32 (n,).

    Each product is summed in one fixed order, so the result does not depend on how the rows are
    blocked; that of a matrix product does, in its last bits.
    """
    products = np.empty(len(left_rows), np.float32)
    step = max(CHUNK_BYTES // (FLOAT_BYTES * left.shape[1] or 1), 1)
    for start in range(0, len(products), step):
        chunk = slice(start, start + step)
        left_vectors = left[left_rows[chunk]]
        right_vectors = right[right_rows[chunk]]
        np.einsum("nd,nd->n", left_vectors, right_vectors, out=products[chunk])
    return products


def block_dot(left: Vectors, right: Vectors, numbers: RowNumbers) -> Vectors:
    """left[w] · right[numbers[w, k]], float32 (w, k), as exact as `pairwise_dot`.

    numbers: rows of `right`, (w, k); where one is negative the product is -inf.
    """
    products = np.empty(numbers.shape, np.float32)
    step = max(CHUNK_BYTES // (FLOAT_BYTES * left.shape[1] * numbers.shape[1] or 1), 1)
    for start in range(0, len(numbers), step):
        chunk = slice(start, start + step)
        np.einsum("wd,wkd->wk", left[chunk], right[numbers[chunk]], out=products[chunk])
    products[numbers < 0] = -np.inf
    return products
