"""Which test texts a model may have seen: word for word, nearly so, or by mteb's own notes.

The test texts are indexed (about 200 bytes a text and 100 bytes a word) and the training data streamed
past them, so training data of any size will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models.get_model_meta import MODEL_REGISTRY

from fletching.report import Report
from fletching.stream import Reader
from fletching.text import normalise

WORDS = 8  # words of a sequence that counts as copied
SHARE = 0.5  # a text most of whose sequences are copied counts as nearly copied


@dataclass
class Texts:
    """The test texts of one kind in one task, and which of them were met."""

    label: str
    split: str
    kind: str  # "queries", "relevant documents", "sentences"
    normal: list[str]
    exact: set[int] = field(default_factory=set)
    copied: dict[int, set[int]] = field(default_factory=dict)  # text: its sequences that were met

    def near(self) -> int:
        """Texts that were not met whole, but for at least half of their sequences of 8 words."""
        sizes = ((row, len(set(_sequences(self.normal[row]))), len(met)) for row, met in self.copied.items())
        return sum(row not in self.exact and met >= SHARE * size for row, size, met in sizes)

    def flag(self) -> str | None:
        """What a reader of the table must know, or None."""
        if not self.exact and not self.near():
            return None
        near = f", {self.near():,} more nearly so" if self.near() else ""
        return f"{len(self.exact):,} of {len(self.normal):,} {self.kind} stand in the training data word for word{near}"


def overlap(report: Report, training: Sequence[str], tasks: Sequence[AbsTask]) -> list[Texts]:
    """The test texts of all tasks with what the training data (examples) hold of them."""
    groups = [texts for task in tasks for texts in texts_of(task)]
    whole: dict[int, list[tuple[Texts, int]]] = {}
    parts: dict[int, list[tuple[Texts, int]]] = {}
    for texts in groups:
        for row, text in enumerate(texts.normal):
            whole.setdefault(_hash(text), []).append((texts, row))
            for sequence in dict.fromkeys(_sequences(text)):
                parts.setdefault(sequence, []).append((texts, row))
    with report.progress("comparing with the training data", unit="texts") as progress:
        for batch in Reader(report, training, "examples", count=False):
            for text in dict.fromkeys([*batch["query"].to_pylist(), *batch["pos"].flatten().to_pylist()]):
                text = normalise(text)
                for texts, row in whole.get(_hash(text), ()):
                    texts.exact.add(row)
                for sequence in _sequences(text):
                    for texts, row in parts.get(sequence, ()):
                        texts.copied.setdefault(row, set()).add(sequence)
                progress.advance()
    return groups


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _sequences(text: str) -> Iterator[int]:
    words = text.split()
    return (_hash(" ".join(words[start : start + WORDS])) for start in range(len(words) - WORDS + 1))


def texts_of(task: AbsTask) -> Iterator[Texts]:
    """The normalised test texts of a loaded task, by kind."""
    name = task.metadata.name
    for subset, splits in _subsets(task):
        label = name if subset == "default" else f"{name}[{subset}]"
        for split in task.eval_splits:
            data = splits.get(split)
            if data is None:
                continue
            if isinstance(task, AbsTaskRetrieval):
                relevant = {document for grades in data["relevant_docs"].values() for document, grade in grades.items() if grade > 0}
                found = zip(data["corpus"]["id"], data["corpus"]["text"])
                yield Texts(label, split, "queries", [normalise(text) for text in data["queries"]["text"]])
                yield Texts(label, split, "relevant documents", [normalise(text) for identity, text in found if identity in relevant])
            else:
                columns = [data[column] for column in ("sentence1", "sentence2", "text") if column in data.column_names]
                yield Texts(label, split, "sentences", [normalise(text) for column in columns for text in column if isinstance(text, str)])


def _subsets(task: AbsTask) -> list[tuple[str, Any]]:
    data: dict[str, Any] = task.dataset or {}
    flat = any(isinstance(part, Dataset) for part in data.values())
    return [("default", data)] if flat else list(data.items())


def noted(models: Iterable[str], tasks: Sequence[AbsTask]) -> list[tuple[str, str]]:
    """(task, flag) where mteb notes that a model, or the one it was tuned from, was trained on a task's data."""
    flags = []
    for known in dict.fromkeys(name for path in models for name in (path, *_tuned_from(path))):
        meta = MODEL_REGISTRY.get(known)
        trained = (meta.get_training_datasets() if meta else None) or ()
        for task in tasks:
            if task.metadata.name in trained:
                flags.append((task.metadata.name, f"by mteb's notes {known} was trained on data of {task.metadata.name}"))
    return flags


def _tuned_from(path: str) -> list[str]:
    """The models that a folder's card names as its base."""
    card = os.path.join(path, "README.md")
    if not os.path.exists(card):
        return []
    try:
        base = ModelCard.load(card).data.base_model
    except (ValueError, OSError, yaml.YAMLError):  # a card without metadata, or with broken ones
        return []
    return base if isinstance(base, list) else [base] if base else []
