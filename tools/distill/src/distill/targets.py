"""What the student shall meet: for each text the vectors of all teachers, joined by hash, float16 in a file of the run's folder.

One teacher's vectors are unit vectors; several stand side by side, the vector of teacher k times sqrt(w_k / sum w), so
that the similarity of two texts is the weighted mean of the teachers' similarities.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from distill.teachers import Teacher
from distill.text_dataset import Texts
from fletching.errors import UsageError
from fletching.report import Report


def targets(
    texts: Texts, teachers: Sequence[Teacher], weights: Sequence[float], report: Report, path: str
) -> np.ndarray:
    """Unit vectors float16 [texts, sum of the teachers' dimensions], mapped from a new file at `path`.

    Raises InputError, with counts, where a teacher has no vector for a text; Usage where there is not one weight a teacher.
    """
    if weights and len(weights) != len(teachers):
        raise UsageError(
            f"--teacher-weights has {len(weights)} numbers for {len(teachers)} teachers",
            "give one weight a teacher",
        )
    given = weights or [1.0] * len(teachers)
    if not sum(given):
        raise UsageError("--teacher-weights are all zero", "give one of them a weight")
    shares = [weight / sum(given) for weight in given]
    width = sum(teacher.dimension for teacher in teachers)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    found = np.memmap(path, np.float16, "w+", shape=(len(texts), width))
    start = 0
    for teacher, share in zip(teachers, shares):
        columns = found[:, start : start + teacher.dimension]
        for rows, vectors in teacher.vectors(texts, report):
            columns[rows] = unit(vectors) * np.sqrt(share)
        start += teacher.dimension
    found.flush()
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a zero vector stays zero."""
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
