"""Own data as real mteb tasks, which mteb loads from memory, scores and reports like any of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import mteb.abstasks
import pyarrow as pa
import xxhash
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from fletching import schema
from fletching.digest import RowDigest
from fletching.errors import UsageError
from mteb_eval.data.collection import Collection
from mteb_eval.data.sentence_pairs import Pairs

DIGEST_ROWS = 8192
NAME = re.compile(r"[\w.-]+")


def metadata(
    name: str,
    kind: Literal["Retrieval", "STS", "PairClassification"],
    main_score: str,
    split: str,
    digest: str,
) -> TaskMetadata:
    """What mteb wants to know of a task; its data revision is the digest of the data."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a task",
            "give it a name of letters, digits, _ . and -, as NAME=FILE",
        )
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
    """A `Collection` as an mteb retrieval task; nDCG@10 is its main score.

    With candidates, it is the mean of 1 / (documents that score as high as the right one, itself included).
    """

    def __init__(self, collection: Collection) -> None:
        self.metadata = metadata(
            collection.name,
            "Retrieval",
            "mrr_pessimistic" if collection.candidates else "ndcg_at_10",
            collection.split,
            collection.digest(),
        )
        super().__init__()
        self._top_k = max([self._top_k, *map(len, (collection.candidates or {}).values())])
        self.reversed = collection.reversed
        self.ignore_identical_ids = collection.without_itself
        self.in_blocks = collection.candidates is not None
        self.data_prompts = collection.prompts
        self.dataset = {"default": {collection.split: retrieval_split(collection)}}
        self.data_loaded = True

    def task_specific_scores(
        self, scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str
    ) -> dict[str, float]:
        if not self.in_blocks:
            return {}
        ranks = [pessimistic_rank(qrels[query], retrieved) for query, retrieved in results.items()]
        return {"mrr_pessimistic": sum(1 / rank for rank in ranks) / len(ranks)}


def pessimistic_rank(grades: dict[str, int], retrieved: dict[str, float]) -> int:
    """How many documents score at least as high as the best right one; past the end where there is none."""
    right = [score for name, score in retrieved.items() if grades.get(name, 0) > 0]
    return sum(score >= max(right) for score in retrieved.values()) if right else len(retrieved) + 1


class OwnSts(AbsTaskSTS):
    """Scored pairs as an mteb STS task; the Spearman correlation of the cosine is its main score.

    mteb's `min_score` and `max_score` stay as they are: no correlation depends on the scale.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.metadata = metadata(pairs.name, "STS", "cosine_spearman", pairs.split, pairs.digest())
        super().__init__()
        self.dataset = {pairs.split: pair_table(pairs, "score", pairs.labels)}
        self.data_loaded = True


class OwnPairs(mteb.abstasks.AbsTaskPairClassification):
    """Labelled pairs (1 same, 0 different) as an mteb task; average precision is its main score."""

    def __init__(self, pairs: Pairs) -> None:
        self.metadata = metadata(
            pairs.name, "PairClassification", "cosine_ap", pairs.split, pairs.digest()
        )
        super().__init__()
        self.dataset = {
            pairs.split: pair_table(pairs, "labels", [int(label) for label in pairs.labels])
        }
        self.data_loaded = True


def retrieval_split(collection: Collection) -> Any:
    """One split as mteb's retrieval tasks hold it."""
    parts = {"corpus": _table(collection.documents), "queries": _table(collection.queries)}
    return parts | {"relevant_docs": collection.relevant, "top_ranked": collection.candidates}


def _table(texts: dict[str, str]) -> Dataset:
    return Dataset(pa.table({"id": list(texts), "text": list(texts.values())}))


def pair_table(pairs: Pairs, label: str, labels: Sequence[Any]) -> Dataset:
    return Dataset(pa.table({"sentence1": pairs.first, "sentence2": pairs.second, label: labels}))


def digest(task: AbsTask) -> str:
    """xxh3-128 of the data that a loaded task holds, whatever revision it says it has."""
    whole = xxhash.xxh3_128()
    _feed(whole, "", task.dataset)
    for setting in ("reversed", "ignore_identical_ids", "data_prompts"):
        value = getattr(task, setting, None)
        whole.update(
            f"{setting}={sorted(value.items()) if isinstance(value, dict) else value}\n".encode()
        )
    return whole.hexdigest()


def _feed(whole: Any, path: str, part: Any) -> None:
    if isinstance(part, Dataset):
        rows = RowDigest()
        for batch in part.with_format("arrow").iter(DIGEST_ROWS):
            columns = [
                (name, schema.cast(array, schema.canonical(array.type)))
                for name in sorted(batch.column_names)
                for array in [batch[name].combine_chunks()]
            ]
            rows.update(
                pa.RecordBatch.from_arrays(
                    [array for _, array in columns], [name for name, _ in columns]
                )
            )
        whole.update(f"{path}={rows.hexdigest()}\n".encode())
    elif isinstance(part, dict) and any(
        isinstance(value, (dict, Dataset)) for value in part.values()
    ):
        for name in sorted(part, key=str):
            _feed(whole, f"{path}/{name}", part[name])
    else:
        whole.update(
            f"{path}={sorted(part.items()) if isinstance(part, dict) else part!r}\n".encode()
        )
