"""The observations as rows of `measures`: one for each run, retrieval task, query and metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval

from fletching import schema
from mteb_eval.data.names import subset_label
from mteb_eval.scoring.task_result import TaskResult

Row = dict[str, Any]

QUERIES = 1024  # whose rows are in memory at a time
SHOWN_TEXTS = 3  # whose texts stand beside the ids
TEXTS = pa.list_(pa.string())
COLUMNS = schema.extend(
    schema.load("measures"),
    pa.schema(
        [
            pa.field("query_id", pa.string()),
            pa.field("query", pa.string()),
            pa.field("rank", pa.int64()),
            pa.field("relevant_ids", TEXTS),
            pa.field("relevant_texts", TEXTS),
            pa.field("top_ids", TEXTS),
            pa.field("top_texts", TEXTS),
        ]
    ),
    *("run", "task", "split", "name", "value"),
)


class RetrievalTexts:
    """The texts of one split of a retrieval task, by id."""

    def __init__(self, task: AbsTaskRetrieval, subset: str, split: str) -> None:
        data = task.dataset[subset][split]
        queries, corpus = data["queries"], data["corpus"]
        self.queries: dict[str, str] = dict(zip(queries["id"], queries["text"]))
        self.relevant = data["relevant_docs"]
        texts, titles = corpus["text"], [""] * len(corpus)
        if "title" in corpus.column_names:
            titles = corpus["title"]
        self.documents: dict[str, str] = {
            name: f"{title} {text}" if title else text
            for name, title, text in zip(corpus["id"], titles, texts)
        }

    def columns(self, query: str, best: Sequence[str]) -> Row:
        """What the rows of a query say besides its figures. best: ids of the documents."""
        grades = {name: grade for name, grade in self.relevant[query].items() if grade > 0}
        relevant = sorted(grades, key=lambda name: (-grades[name], name))
        return {
            "query_id": query,
            "query": self.queries[query],
            "relevant_ids": relevant,
            "relevant_texts": self._texts(relevant),
            "top_ids": best,
            "top_texts": self._texts(best),
        }

    def _texts(self, names: Sequence[str]) -> list[str]:
        # A judgement may name a document that the corpus lacks.
        return [self.documents.get(name, "") for name in names[:SHOWN_TEXTS]]


def query_rows(
    results: Mapping[tuple[str, str], Mapping[str, TaskResult]],
    tasks: Sequence[AbsTask],
    shown: Mapping[tuple[str, str], Sequence[str]],
) -> Iterator[pa.RecordBatch]:
    """Batches of rows, by task, run, query id and metric. shown: metrics by task and split.

    `rank` is that of the first relevant document, 0 where none was retrieved. Tasks that are no
    retrieval have no rows.
    """
    for task in tasks:
        if not isinstance(task, AbsTaskRetrieval):
            continue
        for subset, splits in task.dataset.items():
            for split in splits:
                key = subset_label(task.metadata.name, subset), split
                if key in results:
                    texts = RetrievalTexts(task, subset, split)
                    for run, result in results[key].items():
                        yield from _of_run(run, result, texts=texts, metrics=shown[key])


def _of_run(
    run: str, result: TaskResult, *, texts: RetrievalTexts, metrics: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    names = [name for name in metrics if result.per_query(name) is not None]
    common = {"run": run, "task": result.label, "split": result.split}
    for start in range(0, result.observed.num_rows, QUERIES):
        rows: list[Row] = []
        for observed in result.observed.slice(start, QUERIES).to_pylist():
            columns = texts.columns(observed["id"], observed["top_ids"])
            of_query = common | columns | {"rank": observed["rank"]}
            rows += [of_query | {"name": name, "value": observed[name]} for name in names]
        yield pa.RecordBatch.from_pylist(rows, schema=COLUMNS)
