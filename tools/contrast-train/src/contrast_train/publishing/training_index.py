"""Which rows training reached, and the keys of their texts for the index beside the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contrast_train.data.dataset import TrainingDataset
from contrast_train.data.streamed_dataset import StreamedDataset
from fletching.training_index import TrainingIndex


@dataclass(frozen=True, kw_only=True)
class RowAccount:
    """rows: that could be trained. reached: of these. index: keys of the texts that were seen."""

    rows: int
    reached: int
    index: TrainingIndex


def count_rows(
    dataset: TrainingDataset | StreamedDataset,
    *,
    is_reached: npt.NDArray[np.bool_],
    is_seen: npt.NDArray[np.bool_],
    base: TrainingIndex | None,
) -> RowAccount:
    """Read the rows that a run has reached once more.

    is_reached, is_seen: rows of the data (rows,) that the published weights, and that training
    has seen. base: the index of the base model, which the new one includes.
    """
    reached = 0
    index = TrainingIndex()
    for numbers, batch in dataset.numbered_batches(is_reached | is_seen):
        reached += int(is_reached[numbers].sum())
        seen = batch.filter(pa.array(is_seen[numbers]))
        index.add(seen["query"])
        index.add(seen["pos"].flatten())
        index.add(seen["neg"].flatten())
    if base:
        index.include(base)
    return RowAccount(rows=dataset.trainable_rows, reached=reached, index=index)
