"""The keys of the texts that training saw, which stand beside the weights."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from contrast_train.data.dataset import Rows
from fletching import training_index


def keys(
    rows: Rows, reached: np.ndarray, before: training_index.TrainingIndex | None
) -> training_index.TrainingIndex:
    """The keys of all texts of the rows that training reached (rows,), and of those that the base model knew."""
    found = training_index.TrainingIndex()
    for start, batch in zip(rows.starts, rows.batches):
        batch = batch.filter(pa.array(reached[start : start + len(batch)]))
        for texts in (batch["query"], batch["pos"].flatten(), batch["neg"].flatten()):
            found.add(texts)
    if before:
        found.include(before)
    return found
