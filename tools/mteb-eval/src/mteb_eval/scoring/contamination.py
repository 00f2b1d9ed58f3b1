"""Which test texts a model may have seen in training: word for word, or nearly so.

Memory: 8 bytes for each test text, 16 bytes for each word of them. Training data are streamed
past them (`--training`), or known by the keys in the model's folder (fletching.training_index).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval

from fletching import text_keys
from fletching.io import Reader
from fletching.report import Report
from fletching.table import KeySet
from fletching.training_index import WORDS, TrainingIndex
from mteb_eval.data.names import subset_label

Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

NEARLY = 0.5  # a text is nearly seen where this share of its runs of 8 words is known


@dataclass(frozen=True, kw_only=True)
class EvaluationTexts:
    """The n test texts of one kind in one task, as keys, with their r distinct runs of 8 words.

    kind: "queries", "relevant documents" or "sentences". text_keys: (n,). run_keys: (r,).
    run_owners: the text of each run, (r,).
    """

    label: str
    split: str
    kind: str
    text_keys: Keys
    run_keys: Keys
    run_owners: npt.NDArray[np.int64]


class Overlap:
    """What one body of training data contains of some test texts.

    source: the training data, in words. seen: which texts are in it word for word, (n,).
    known_runs: which runs are, (r,). sampled_runs: which runs would be known if they were in it,
    (r,).
    """

    def __init__(self, texts: EvaluationTexts, source: str) -> None:
        self.texts, self.source = texts, source
        self.seen: Mask = np.zeros(len(texts.text_keys), bool)
        self.known_runs: Mask = np.zeros(len(texts.run_keys), bool)
        self.sampled_runs: Mask = np.ones(len(texts.run_keys), bool)

    def add(self, training_texts: KeySet, training_runs: KeySet) -> None:
        """Compare with keys of training texts and of their runs."""
        self.seen |= training_texts.contains(self.texts.text_keys)
        self.known_runs |= training_runs.contains(self.texts.run_keys)

    @property
    def nearly_seen(self) -> Mask:
        """Texts that were not seen word for word, but in at least half of their runs, (n,)."""
        size, owners = len(self.seen), self.texts.run_owners
        sampled = np.bincount(owners[self.sampled_runs], minlength=size)
        known = np.bincount(owners[self.known_runs & self.sampled_runs], minlength=size)
        has_many: Mask = (sampled > 0) & (known >= NEARLY * sampled)
        return ~self.seen & has_many

    def flag(self) -> str | None:
        """What a reader of the table must know; None where nothing was seen."""
        seen, nearly = int(self.seen.sum()), int(self.nearly_seen.sum())
        if not seen and not nearly:
            return None
        about = "" if self.sampled_runs.all() else "about "
        texts = f"of {len(self.seen):,} {self.texts.kind}"
        if not seen:
            return f"{about}{nearly:,} {texts} are in {self.source}, nearly word for word"
        more = f", {about}{nearly:,} more nearly so" if nearly else ""
        return f"{seen:,} {texts} are in {self.source} word for word{more}"

    def measures(self) -> dict[str, float]:
        """The shares of the texts that were seen, by name."""
        kind = self.texts.kind.split()[-1]
        return {
            f"{kind}_seen": float(self.seen.mean()),
            f"{kind}_nearly_seen": float(self.nearly_seen.mean()),
        }


def compare_with_files(
    report: Report, training: Sequence[str], groups: Sequence[EvaluationTexts]
) -> list[Overlap]:
    """The overlap with `examples` of any size: with their queries, positives and negatives."""
    overlaps = [Overlap(texts, "the training data") for texts in groups]
    with report.progress("comparing with the training data", unit="rows") as progress:
        for batch in Reader(report, training, "examples", count=False):
            texts = _distinct_texts(batch)
            hashes = text_keys.hash_texts(texts)
            whole = KeySet(hashes[hashes != text_keys.ABSENT])
            runs = KeySet(text_keys.hash_word_runs(texts, WORDS)[1])
            for overlap in overlaps:
                overlap.add(whole, runs)
            progress.advance(len(batch))
    return overlaps


def _distinct_texts(batch: pa.RecordBatch) -> pa.Array:
    """All texts of a batch of `examples`."""
    lists = [name for name in ("pos", "neg") if name in batch.schema.names]
    columns = [batch["query"], *(batch[name].flatten() for name in lists)]
    return pa.concat_arrays([column.cast(pa.string()) for column in columns]).unique()


def compare_with_model(
    name: str, index: TrainingIndex, groups: Sequence[EvaluationTexts]
) -> list[Overlap]:
    """The overlap of each group with the training texts that a model's folder keeps the keys of.

    Where its runs are a sample, runs outside of the sample decide nothing.
    """
    whole, runs = KeySet(index.whole), KeySet(index.runs)
    overlaps = [Overlap(texts, f"the training data of {name}") for texts in groups]
    for overlap in overlaps:
        overlap.sampled_runs = index.sampled(overlap.texts.run_keys)
        overlap.add(whole, runs)
    return overlaps


def collect_test_texts(task: AbsTask) -> Iterator[EvaluationTexts]:
    """The test texts of a loaded task, by subset, split and kind."""
    for subset, splits in _subsets(task):
        label = subset_label(task.metadata.name, subset)
        for split in task.eval_splits:
            data = splits.get(split)
            if data is None:
                continue
            for kind, texts in _texts_by_kind(task, data).items():
                yield _hash(texts, label=label, split=split, kind=kind)


def _texts_by_kind(task: AbsTask, data: Any) -> dict[str, list[Any]]:  # noqa: ANN401
    if not isinstance(task, AbsTaskRetrieval):
        columns = [data[name] for name in data.column_names]
        return {"sentences": [text for column in columns for text in _flatten_texts(column)]}
    relevant = set()
    for grades in data["relevant_docs"].values():
        relevant |= {document for document, grade in grades.items() if grade > 0}
    documents = zip(data["corpus"]["id"], data["corpus"]["text"])
    return {
        "queries": data["queries"]["text"],
        "relevant documents": [text for identity, text in documents if identity in relevant],
    }


def _flatten_texts(column: Sequence[object]) -> Iterator[str]:
    """The texts of a column of texts, or of lists of texts; nothing of any other."""
    for content in column:
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield from (part for part in content if isinstance(part, str))


def _hash(texts: Sequence[object], *, label: str, split: str, kind: str) -> EvaluationTexts:
    array = pa.array([text if isinstance(text, str) else None for text in texts], pa.string())
    owners, runs = text_keys.hash_word_runs(array, WORDS)
    order = np.lexsort((runs, owners))
    owners, runs = owners[order], runs[order]
    is_first = np.ones(len(runs), bool)  # of equal runs in the same text
    is_first[1:] = (np.diff(owners) != 0) | (runs[1:] != runs[:-1])
    return EvaluationTexts(
        label=label,
        split=split,
        kind=kind,
        text_keys=text_keys.hash_texts(array),
        run_keys=runs[is_first],
        run_owners=owners[is_first],
    )


def _subsets(task: AbsTask) -> list[tuple[str, Mapping[str, Any]]]:
    """(subset, data by split) of a loaded task."""
    data: dict[str, Any] = task.dataset or {}
    is_flat = any(isinstance(part, Dataset) for part in data.values())
    return [("default", data)] if is_flat else list(data.items())
