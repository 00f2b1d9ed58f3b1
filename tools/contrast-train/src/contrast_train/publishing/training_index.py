"""The keys of the texts that training saw, for the index beside the weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contrast_train.data.dataset import TrainingDataset
from fletching.training_index import TrainingIndex


def index_texts(
    dataset: TrainingDataset, is_reached: npt.NDArray[np.bool_], base: TrainingIndex | None
) -> TrainingIndex:
    """The keys of all texts of the rows that training reached (rows,), and of those of the
    base model.
    """
    index = TrainingIndex()
    for start, batch in zip(dataset.table.offsets, dataset.table.batches):
        reached = batch.filter(pa.array(is_reached[start : start + len(batch)]))
        index.add(reached["query"])
        index.add(reached["pos"].flatten())
        index.add(reached["neg"].flatten())
    if base:
        index.include(base)
    return index
