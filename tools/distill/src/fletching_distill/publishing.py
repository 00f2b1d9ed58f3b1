"""What a published student says of itself: origin, losses, keys of its training texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching import training_index
from fletching.train import metrics_log
from fletching.training_index import TrainingIndex
from fletching_distill.options import Options
from fletching_distill.teacher import Teacher
from fletching_distill.text_dataset import TextDataset


def index_texts(
    texts: TextDataset, is_trained: npt.NDArray[np.bool_], models: Iterable[str]
) -> TrainingIndex:
    """Keys of the texts that were trained on.

    is_trained: (texts,). models: base model and teachers, whose own indices are included.
    """
    index = TrainingIndex()
    for start, batch in zip(texts.table.offsets, texts.table):
        is_trained_in_batch = pa.array(is_trained[start : start + len(batch)])
        index.add(batch["text"].filter(is_trained_in_batch))
    for name in models:
        before = training_index.load(name)
        if before:
            index.include(before)
    return index


def describe_origin(options: Options, teachers: Sequence[Teacher]) -> str:
    """What the student is and who taught it, for the card."""
    names = [os.path.basename(teacher.name.rstrip("/")) for teacher in teachers]
    quoted = ", ".join(f"`{name}`" for name in names)
    kind = "static token embeddings" if options.student == "static" else "a transformer"
    if options.student_layers:
        kind += f" of {options.student_layers} of its layers"
    return f"{kind} trained on the vectors of {quoted}"


def first_and_last(log: str) -> list[tuple[str, float, float]]:
    """(loss, its mean over the first tenth of the steps, over the last tenth)."""
    values_by_loss: dict[str, list[float]] = {}
    for line in metrics_log.read(log):
        if line["name"].startswith("loss"):
            name = line["name"].removeprefix("loss_")
            values_by_loss.setdefault(name, []).append(line["value"])
    means = []
    for name, values in values_by_loss.items():
        tenth = -(-len(values) // 10)
        means.append((name, float(np.mean(values[:tenth])), float(np.mean(values[-tenth:]))))
    return means
