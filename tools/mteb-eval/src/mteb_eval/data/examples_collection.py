"""A retrieval collection from `examples`: distinct queries and the documents that they search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from fletching.errors import InputError
from fletching.io import Reader
from fletching.qrels import Grades
from fletching.report import Report
from fletching.text import content_id
from fletching.titled_texts import titled_texts
from mteb_eval.data.collection import RetrievalCollection

Row = dict[str, Any]


def read_examples(
    report: Report,
    name: str,
    inputs: Sequence[str],
    *,
    corpus: Sequence[str] = (),
    with_negatives: bool = False,
    limit: int | None = None,
    reverse: bool = False,
) -> RetrievalCollection:
    """Each distinct query with the positives of all its rows.

    The documents are all distinct positives, the texts of `corpus` and, with `with_negatives`,
    the negatives of the rows. reverse: each positive is a query for the query of its row. Raises
    InputError where there are no rows, or where one query has two prompts.
    """
    judgements = _Judgements(name, with_negatives=with_negatives)
    if corpus:
        for batch in Reader(report, corpus, "texts", count=False):
            judgements.add_corpus(batch)
    for batch in Reader(report, inputs, "examples", limit=limit):
        rows = batch.to_pylist()
        for row in _reversed_rows(rows) if reverse else rows:
            judgements.add_row(row)
    if not judgements.grades:
        raise InputError(
            f"{name} ({', '.join(inputs)}) holds no rows",
            "name a file of examples with held-out queries",
        )
    changed = judgements.documents.other_texts
    if changed:
        report.note(
            f"{name}: {changed:,} texts differ from the first text with their id, which is used"
        )
    return _collection(report, judgements, is_reversed=reverse)


class _DistinctDocuments:
    """Documents by id where the data have ids, else by text."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}  # by id
        self.ids: dict[str, str] = {}  # by text
        self.other_texts = 0

    def add(self, text: str, identity: str | None = None) -> str:
        """The id of the document; a known id keeps its first text, a known text its first id."""
        if identity is not None and identity in self.texts:
            self.other_texts += self.texts[identity] != text
            return identity
        if text in self.ids:
            return self.ids[text]
        identity = identity or content_id(text)
        self.texts[identity] = text
        self.ids[text] = identity
        return identity

    def add_all(self, texts: Sequence[str], ids: Sequence[str | None] | None) -> list[str]:
        """The ids of several documents."""
        return [
            self.add(text, identity) for text, identity in zip(texts, ids or [None] * len(texts))
        ]


class _Judgements:
    """What rows of `examples` say: distinct documents, and which of them answer each query text."""

    def __init__(self, name: str, *, with_negatives: bool) -> None:
        self.name, self.with_negatives = name, with_negatives
        self.documents = _DistinctDocuments()
        self.grades: Grades = {}  # by query text, then document id
        self.prompts: dict[str, str] = {}  # by query text

    def add_corpus(self, batch: pa.RecordBatch) -> None:
        """Documents that are relevant to no query yet."""
        self.documents.add_all(titled_texts(batch).to_pylist(), batch["id"].to_pylist())

    def add_row(self, row: Row) -> None:
        """One row of examples. Raises InputError for a second prompt of its query."""
        query, prompt = row["query"], row.get("prompt")
        grades = self.grades.setdefault(query, {})
        for identity in self.documents.add_all(row["pos"], row.get("pos_ids")):
            grades[identity] = 1
        if self.with_negatives and row.get("neg"):
            self.documents.add_all(row["neg"], row.get("neg_ids"))
        if prompt is not None and self.prompts.setdefault(query, prompt) != prompt:
            raise InputError(
                f"{self.name}: the query {query[:60]!r} appears with two prompts",
                "keep one of them",
            )


def _reversed_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """A row for each positive, which asks for the query."""
    for row in rows:
        for text in row["pos"]:
            yield {"query": text, "pos": [row["query"]]}


def _collection(
    report: Report, judgements: _Judgements, *, is_reversed: bool
) -> RetrievalCollection:
    """Gives the queries ids.

    A query that is also a document, and no answer to itself, gets that document's id: mteb then
    does not rank the document for it, since finding oneself is no success.
    """
    documents, grades = judgements.documents, judgements.grades
    itself: dict[str, str] = {}
    for query in grades:
        identity = documents.ids.get(query)
        if identity is not None and identity not in grades[query]:
            itself[query] = identity
    if itself:
        report.note(
            f"{judgements.name}: {len(itself):,} queries are documents too; "
            "a query is not counted as finding itself"
        )
    ids = {query: itself.get(query) or content_id("query", query) for query in grades}
    return RetrievalCollection(
        name=judgements.name,
        split="test",
        queries={ids[query]: query for query in grades},
        documents=documents.texts,
        relevant={ids[query]: answers for query, answers in grades.items()},
        prompts={ids[query]: prompt for query, prompt in judgements.prompts.items()},
        is_reversed=is_reversed,
        ignore_identical_ids=bool(itself),
    )
