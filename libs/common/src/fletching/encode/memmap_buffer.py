"""Many vectors without holding them: rows in a nameless temporary file, mapped into memory."""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np

CHUNK_BYTES = 16 << 20  # gathered at a time by `pairwise_dot`


def allocate(rows: int, dimension: int) -> np.ndarray:
    """Space for float32 [rows, dimension] on disk, gone with the array. The system keeps in memory what it can spare."""
    if not rows * dimension:
        return np.zeros((rows, dimension), np.float32)
    with tempfile.TemporaryFile(prefix="fletching-") as file:
        file.truncate(rows * dimension * 4)
        return np.asarray(np.memmap(file, np.float32, "r+", shape=(rows, dimension)))


def release_pages(vectors: np.ndarray) -> None:
    """Take the pages of `allocate` (or of a slice of it) out of this process; they come back from the file when touched."""
    held: Any = vectors
    while isinstance(held, np.ndarray):
        held = held.base
    if isinstance(held, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)


def pairwise_dot(
    left: np.ndarray, left_rows: np.ndarray, right: np.ndarray, right_rows: np.ndarray
) -> np.ndarray:
    """left[left_rows[i]] · right[right_rows[i]] for each i, float32 [n].

    Each product is summed in one order whatever stands beside it, so the result does not depend on blocks,
    which that of a matrix product does in its last bits.
    """
    result = np.empty(len(left_rows), np.float32)
    step = max(CHUNK_BYTES // (4 * left.shape[1] or 1), 1)
    for start in range(0, len(result), step):
        part = slice(start, start + step)
        np.einsum("nd,nd->n", left[left_rows[part]], right[right_rows[part]], out=result[part])
    return result


def block_dot(left: np.ndarray, right: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """left[w] · right[numbers[w, k]], float32 like numbers (w, k), as exact as `pairwise_dot`; -inf where a number is negative."""
    result = np.empty(numbers.shape, np.float32)
    step = max(CHUNK_BYTES // (4 * left.shape[1] * numbers.shape[1] or 1), 1)
    for start in range(0, len(numbers), step):
        part = slice(start, start + step)
        np.einsum("wd,wkd->wk", left[part], right[numbers[part]], out=result[part])
    result[numbers < 0] = -np.inf
    return result
