"""Which test texts a model may have seen in training: word for word, or nearly so.

Held in memory: 8 bytes a test text, 16 bytes a word of them. Training data are either streamed past them
(`--training`), or known by the keys that a model of ours keeps in its folder (fletching.training_index).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval

from fletching import text_keys
from fletching.io import Reader
from fletching.report import Report
from fletching.training_index import WORDS, TrainingIndex

SHARE = 0.5  # a text most of whose runs of 8 words are known counts as nearly seen


@dataclass
class Texts:
    """The test texts of one kind in one task, as keys: of each text [n], and of each distinct run of 8 words in one."""

    label: str
    split: str
    kind: str  # "queries", "relevant documents", "sentences"
    whole: np.ndarray
    owner: np.ndarray  # the text of each run
    runs: np.ndarray


class Overlap:
    """What one body of training data (`source`, in words) holds of some test texts."""

    def __init__(self, texts: Texts, source: str) -> None:
        self.texts, self.source = texts, source
        self.exact = np.zeros(len(texts.whole), bool)
        self.met = np.zeros(len(texts.runs), bool)
        self.judged = np.ones(
            len(texts.runs), bool
        )  # the runs that would be known if they had been seen

    def meet(self, whole: np.ndarray, runs: np.ndarray) -> None:
        """Keys of training texts, and of their runs; sorted."""
        self.exact |= text_keys.among(self.texts.whole, whole)
        self.met |= text_keys.among(self.texts.runs, runs)

    @property
    def near(self) -> np.ndarray:
        """Texts that were not met whole, but for at least half of their runs: bool [texts]."""
        count = len(self.exact)
        judged = np.bincount(self.texts.owner[self.judged], minlength=count)
        met = np.bincount(self.texts.owner[self.met & self.judged], minlength=count)
        return ~self.exact & (judged > 0) & (met >= SHARE * judged)

    def flag(self) -> str | None:
        """What a reader of the table must know, or None."""
        exact, near = int(self.exact.sum()), int(self.near.sum())
        if not exact and not near:
            return None
        about = "about " if not self.judged.all() else ""
        more = f", {about}{near:,} more nearly so" if near else ""
        return f"{exact:,} of {len(self.exact):,} {self.texts.kind} stand in {self.source} word for word{more}"

    def measures(self) -> dict[str, float]:
        """The shares of the texts that were seen, by name."""
        kind = self.texts.kind.split()[-1]
        return {
            f"{kind}_seen": float(self.exact.mean()),
            f"{kind}_nearly_seen": float(self.near.mean()),
        }


def in_files(report: Report, training: Sequence[str], groups: Sequence[Texts]) -> list[Overlap]:
    """Against the rows of `examples`: queries, positives and negatives, of any size."""
    found = [Overlap(texts, "the training data") for texts in groups]
    with report.progress("comparing with the training data", unit="rows") as progress:
        for batch in Reader(report, training, "examples", count=False):
            columns = [
                batch["query"],
                *(batch[name].flatten() for name in ("pos", "neg") if name in batch.schema.names),
            ]
            texts = pa.concat_arrays([column.cast(pa.string()) for column in columns]).unique()
            whole, runs = (
                np.unique(text_keys.hash_texts(texts)),
                np.unique(text_keys.hash_word_runs(texts, WORDS)[1]),
            )
            for overlap in found:
                overlap.meet(whole[whole != text_keys.ABSENT], runs)
            progress.advance(len(batch))
    return found


def in_model(name: str, seen: TrainingIndex, groups: Sequence[Texts]) -> list[Overlap]:
    """Against the keys that a model keeps; where its runs are a sample, the runs outside the sample do not count."""
    found = [Overlap(texts, f"the training data of {name}") for texts in groups]
    for overlap in found:
        overlap.judged = seen.sampled(overlap.texts.runs)
        overlap.meet(seen.whole, seen.runs)
    return found


def texts_of(task: AbsTask) -> Iterator[Texts]:
    """The test texts of a loaded task, by kind."""
    name = task.metadata.name
    for subset, splits in _subsets(task):
        label = name if subset == "default" else f"{name}[{subset}]"
        for split in task.eval_splits:
            data = splits.get(split)
            if data is None:
                continue
            if isinstance(task, AbsTaskRetrieval):
                relevant = {
                    document
                    for grades in data["relevant_docs"].values()
                    for document, grade in grades.items()
                    if grade > 0
                }
                found = zip(data["corpus"]["id"], data["corpus"]["text"])
                yield _keyed(label, split, "queries", data["queries"]["text"])
                yield _keyed(
                    label,
                    split,
                    "relevant documents",
                    [text for identity, text in found if identity in relevant],
                )
            else:
                yield _keyed(
                    label,
                    split,
                    "sentences",
                    [text for column in data.column_names for text in _plain(data[column])],
                )


def _plain(column: Sequence[Any]) -> Iterator[str]:
    """The texts of a column of texts, or of lists of texts; nothing of any other."""
    for content in column:
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield from (part for part in content if isinstance(part, str))


def _keyed(label: str, split: str, kind: str, texts: Sequence[Any]) -> Texts:
    array = pa.array([text if isinstance(text, str) else None for text in texts], pa.string())
    owner, runs = text_keys.hash_word_runs(array, WORDS)
    order = np.lexsort((runs, owner))
    owner, runs = owner[order], runs[order]
    new = np.append(True, (np.diff(owner) != 0) | (runs[1:] != runs[:-1]))[: len(runs)]
    return Texts(label, split, kind, text_keys.hash_texts(array), owner[new], runs[new])


def _subsets(task: AbsTask) -> list[tuple[str, Any]]:
    data: dict[str, Any] = task.dataset or {}
    flat = any(isinstance(part, Dataset) for part in data.values())
    return [("default", data)] if flat else list(data.items())
