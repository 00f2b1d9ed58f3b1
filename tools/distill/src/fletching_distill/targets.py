"""The targets of the student: for each text the vectors of all teachers, float16, in one file.

One teacher's vectors are unit vectors; those of several are concatenated, the vector of teacher k
times sqrt(w_k / sum w), so that the similarity of two texts is the weighted mean of the teachers'
similarities.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fletching.errors import UsageError
from fletching.report import Report
from fletching_distill.teacher import Floats, Teacher
from fletching_distill.text_dataset import TextDataset


def write_targets(
    path: str,
    texts: TextDataset,
    teachers: Sequence[Teacher],
    *,
    weights: Sequence[float],
    report: Report,
) -> npt.NDArray[np.float16]:
    """Unit vectors (texts, sum of the teachers' dimensions), mapped from a new file at `path`.

    weights: one a teacher; () for equal ones.
    Raises InputError, with counts, where a teacher has no vector for a text; UsageError for weights
    that do not match the teachers.
    """
    shares = normalised_weights(weights, len(teachers))
    width = sum(teacher.dimension for teacher in teachers)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    targets = np.memmap(path, np.float16, "w+", shape=(len(texts), width))
    start = 0
    for teacher, share in zip(teachers, shares):
        columns = targets[:, start : start + teacher.dimension]
        for numbers, vectors in teacher.vectors(texts, report):
            columns[numbers] = unit_vectors(vectors) * np.sqrt(share)
        start += teacher.dimension
    targets.flush()
    return targets


def normalised_weights(weights: Sequence[float], teachers: int) -> list[float]:
    """Weights with the sum 1; equal ones for (). Raises UsageError where they do not fit."""
    if weights and len(weights) != teachers:
        raise UsageError(
            f"--teacher-weights has {len(weights)} numbers for {teachers} teachers",
            "pass one weight for each teacher",
        )
    weights = weights or [1.0] * teachers
    total = sum(weights)
    if not total:
        raise UsageError("--teacher-weights are all zero", "pass a positive weight")
    return [weight / total for weight in weights]


def unit_vectors(vectors: Floats) -> npt.NDArray[np.float32]:
    """Rows of length 1; a zero vector stays zero."""
    vectors = vectors.astype(np.float32)
    # In float64: the squares of large and of small numbers are beyond float32.
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    units = np.zeros_like(vectors)
    np.divide(vectors, lengths, out=units, where=lengths > 0, casting="same_kind")
    return units
