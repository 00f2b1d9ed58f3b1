"""Own data as real mteb tasks, which mteb loads from memory, scores and reports like any of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import mteb.abstasks
import pyarrow as pa
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from fletching.errors import Usage
from mteb_eval.collection import Collection
from mteb_eval.pairs import Pairs

NAME = re.compile(r"[\w.-]+")


def metadata(name: str, kind: str, main_score: str, split: str, digest: str) -> TaskMetadata:
    """What mteb wants to know of a task; its data revision is the digest of the data."""
    if not NAME.fullmatch(name):
        raise Usage(f"{name!r} cannot name a task", "give it a name of letters, digits, _ . and -, as NAME=FILE")
    return TaskMetadata(
        name=name,
        description=f"{kind} on the user's own data",
        reference=None,
        dataset={"path": f"local/{name}", "revision": digest},
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=[split],
        eval_langs=["eng-Latn"],  # mteb demands one; it decides nothing
        main_score=main_score,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


class OwnRetrieval(AbsTaskRetrieval):
    """A `Collection` as an mteb retrieval task; nDCG@10 is its main score."""

    def __init__(self, collection: Collection) -> None:
        self.metadata = metadata(collection.name, "Retrieval", "ndcg_at_10", collection.split, collection.digest())
        super().__init__()
        self.data_prompts = collection.prompts
        parts = {"corpus": _table(collection.documents), "queries": _table(collection.queries)}
        self.dataset = {"default": {collection.split: parts | {"relevant_docs": collection.relevant, "top_ranked": None}}}
        self.data_loaded = True


class OwnSts(AbsTaskSTS):
    """Scored pairs as an mteb STS task; the Spearman correlation of the cosine is its main score."""

    def __init__(self, pairs: Pairs) -> None:
        self.metadata = metadata(pairs.name, "STS", "cosine_spearman", pairs.split, pairs.digest())
        super().__init__()
        self.min_score, self.max_score = min(pairs.labels), max(pairs.labels)
        self.dataset = {pairs.split: _pairs(pairs, "score", pairs.labels)}
        self.data_loaded = True


class OwnPairs(mteb.abstasks.AbsTaskPairClassification):
    """Labelled pairs (1 same, 0 different) as an mteb task; average precision is its main score."""

    def __init__(self, pairs: Pairs) -> None:
        self.metadata = metadata(pairs.name, "PairClassification", "max_ap", pairs.split, pairs.digest())
        super().__init__()
        self.dataset = {pairs.split: _pairs(pairs, "labels", [int(label) for label in pairs.labels])}
        self.data_loaded = True


def _table(texts: dict[str, str]) -> Dataset:
    return Dataset(pa.table({"id": list(texts), "text": list(texts.values())}))


def _pairs(pairs: Pairs, label: str, labels: Sequence[Any]) -> Dataset:
    return Dataset(pa.table({"sentence1": pairs.first, "sentence2": pairs.second, label: labels}))
