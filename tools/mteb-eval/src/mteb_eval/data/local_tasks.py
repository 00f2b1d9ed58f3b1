"""The user's own data as mteb tasks, which mteb loads from memory and scores itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
import xxhash
from datasets import Dataset
from mteb.abstasks import AbsTaskPairClassification
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from fletching import schema
from fletching.digest import RowDigest
from fletching.errors import UsageError
from mteb_eval.data.collection import RetrievalCollection
from mteb_eval.data.ranking import RankedQuery
from mteb_eval.data.sentence_pairs import SentencePairs

DIGEST_ROWS = 8192
NAME = re.compile(r"[\w.-]+")
Results = dict[str, dict[str, float]]  # scores of the retrieved documents, by query id


def describe_task(
    name: str,
    *,
    kind: Literal["Retrieval", "STS", "PairClassification"],
    main_score: str,
    split: str,
    digest: str,
) -> TaskMetadata:
    """The metadata that mteb wants of a task; the revision of its data set is the digest.

    Raises UsageError where mteb could not use the name as a file name.
    """
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


class LocalRetrieval(AbsTaskRetrieval):
    """A `RetrievalCollection` as an mteb retrieval task; nDCG@10 is its main score.

    Where the collection has candidates, the main score is the mean of 1 / pessimistic rank.
    """

    def __init__(self, collection: RetrievalCollection) -> None:
        candidates = collection.candidates or {}
        self.metadata = describe_task(
            collection.name,
            kind="Retrieval",
            main_score="mrr_pessimistic" if candidates else "ndcg_at_10",
            split=collection.split,
            digest=collection.digest(),
        )
        super().__init__()
        self._top_k = max([self._top_k, *map(len, candidates.values())])
        self.reversed = collection.is_reversed
        self.ignore_identical_ids = collection.ignore_identical_ids
        self.has_candidates = collection.candidates is not None
        self.data_prompts = collection.prompts
        self.dataset = {"default": {collection.split: retrieval_split(collection)}}
        self.data_loaded = True

    def task_specific_scores(
        self,
        scores: Results,
        qrels: Mapping[str, Mapping[str, int]],
        results: Results,
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        """The main score of a task with candidates, which mteb does not compute."""
        if not self.has_candidates:
            return {}
        queries = [RankedQuery(qrels[query], retrieved) for query, retrieved in results.items()]
        total = sum(1 / query.pessimistic_rank for query in queries)
        return {"mrr_pessimistic": total / len(queries)}


class LocalSts(AbsTaskSTS):
    """Scored pairs as an mteb STS task; the Spearman correlation of the cosine is its main score.

    mteb's `min_score` and `max_score` keep their defaults: no correlation depends on the scale.
    """

    def __init__(self, pairs: SentencePairs) -> None:
        self.metadata = describe_task(
            pairs.name,
            kind="STS",
            main_score="cosine_spearman",
            split=pairs.split,
            digest=pairs.digest(),
        )
        super().__init__()
        self.dataset = {pairs.split: pair_table(pairs, "score", pairs.labels)}
        self.data_loaded = True


class LocalPairClassification(AbsTaskPairClassification):
    """Labelled pairs (1 same, 0 different) as an mteb task; average precision is its main score."""

    def __init__(self, pairs: SentencePairs) -> None:
        self.metadata = describe_task(
            pairs.name,
            kind="PairClassification",
            main_score="cosine_ap",
            split=pairs.split,
            digest=pairs.digest(),
        )
        super().__init__()
        labels = [int(label) for label in pairs.labels]
        self.dataset = {pairs.split: pair_table(pairs, "labels", labels)}
        self.data_loaded = True


def retrieval_split(collection: RetrievalCollection) -> RetrievalSplitData:
    """One split in the form of mteb's retrieval tasks."""
    return RetrievalSplitData(
        corpus=_text_table(collection.documents),
        queries=_text_table(collection.queries),
        relevant_docs=collection.relevant,
        top_ranked=collection.candidates,
    )


def _text_table(texts: dict[str, str]) -> Dataset:
    return Dataset(pa.table({"id": list(texts), "text": list(texts.values())}))


def pair_table(pairs: SentencePairs, label: str, labels: Sequence[float]) -> Dataset:
    """Pairs in the form of mteb's tasks on pairs; `label` names the last column."""
    columns = {"sentence1": pairs.first, "sentence2": pairs.second, label: labels}
    return Dataset(pa.table(columns))


# --- digest --------------------------------------------------------------------------------------


def digest_task(task: AbsTask) -> str:
    """xxh3-128 of the data of a loaded task, whatever its metadata say."""
    whole = xxhash.xxh3_128()
    _digest_part(whole, "", task.dataset)
    for setting in ("reversed", "ignore_identical_ids", "data_prompts"):
        content = _in_order(getattr(task, setting, None))
        whole.update(f"{setting}={content}\n".encode())
    return whole.hexdigest()


def _digest_part(whole: xxhash.xxh3_128, path: str, part: object) -> None:
    """Add a table, a dictionary of parts, or a value. path: its place in the data: `/test`."""
    if isinstance(part, Dataset):
        whole.update(f"{path}={_digest_table(part)}\n".encode())
    elif isinstance(part, dict) and any(isinstance(v, (dict, Dataset)) for v in part.values()):
        for name in sorted(part, key=str):
            _digest_part(whole, f"{path}/{name}", part[name])
    else:
        content = _in_order(part) if isinstance(part, dict) else repr(part)
        whole.update(f"{path}={content}\n".encode())


def _digest_table(table: Dataset) -> str:
    rows = RowDigest()
    for batch in table.with_format("arrow").iter(DIGEST_ROWS):
        names = sorted(batch.column_names)
        columns = [_canonical(batch[name].combine_chunks()) for name in names]
        rows.update(pa.RecordBatch.from_arrays(columns, names))
    return rows.hexdigest()


def _canonical(column: pa.Array) -> pa.Array:
    return schema.cast(column, schema.canonical(column.type))


def _in_order(content: object) -> object:
    """The items of a dictionary by key; anything else as it is."""
    return sorted(content.items()) if isinstance(content, dict) else content
