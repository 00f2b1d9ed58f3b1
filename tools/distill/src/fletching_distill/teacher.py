"""What a teacher is, whatever its vectors come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fletching.protocols import Lineage
from fletching.report import Report
from fletching_distill.text_dataset import TextDataset

Floats = npt.NDArray[np.float16] | npt.NDArray[np.float32]
VectorBatches = Iterator[tuple[npt.NDArray[np.int64], Floats]]  # (numbers of texts, vectors)
Prompts = Mapping[str, str]  # by role: "query" and "document"


class Teacher(Protocol):
    """A source of vectors for the texts of a run."""

    name: str
    dimension: int

    @property
    def identity(self) -> Lineage:
        """What decides the vectors, for the manifest and the lineage."""

    def vectors(self, texts: TextDataset, report: Report) -> VectorBatches:
        """Batches until every text has its vector. Raises InputError, with counts, if not."""
