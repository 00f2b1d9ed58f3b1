"""A retrieval collection as `examples`: queries joined with a corpus by relevance judgements.

Memory: the judgements and the texts of judged documents and queries; the rest of the corpus is
read and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from fletching import schema
from fletching.errors import InputError
from fletching.io.reader import Reader
from fletching.lineage import Node
from fletching.qrels import Grades
from fletching.report import Report
from fletching.text import titled

TEXTS = pa.list_(pa.string())
BLOCK = 8192  # rows of a batch


@dataclass(frozen=True, kw_only=True)
class JudgedCollection:
    """Where the parts of a collection lie.

    corpus, queries: paths of `texts`. grades: by query and document id. judged_by: names the
    judgements, for notes and errors.
    """

    where: str
    corpus: str
    queries: str
    grades: Grades
    judged_by: str


@dataclass
class JudgedRows:
    """One row of `examples` for each judged query with a relevant document, as a row source.

    Documents of grade 0 are its negatives. Queries and documents keep the order of the judgements.
    """

    collection: JudgedCollection
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        grades = [grade for judged in self.grades.values() for grade in judged.values()]
        columns = ["id", "query", "pos", "pos_ids"]
        if min(grades, default=1) <= 0:
            columns += ["neg", "neg_ids"]
        self.schema = schema.load("examples").arrow(columns)
        self.notes.append(f"{self.where} is a retrieval collection: {self.collection.judged_by}")
        if max(grades, default=1) > 1:
            self.notes.append(f"{self.where}: grades above 1 are read as 1, relevant")

    @property
    def where(self) -> str:
        """Its name in errors."""
        return self.collection.where

    @property
    def grades(self) -> Grades:
        """By query and document id."""
        return self.collection.grades

    @property
    def lineage_node(self) -> Node:
        """None is known."""
        return {}

    @property
    def ends(self) -> list[Node]:
        """Nothing is known."""
        return [{}]

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Blocks of rows. Raises InputError where a judged query is missing."""
        judged = {document for grades in self.grades.values() for document in grades}
        documents = _texts(self.collection.corpus, judged)
        queries = _texts(self.collection.queries, set(self.grades))
        rows = list(self._rows(queries, documents))
        self._note_missing(len(judged) - len(documents), len(self.grades) - len(rows))
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            yield self.schema, pa.RecordBatch.from_pylist(block, self.schema)

    def _rows(
        self, queries: dict[str, str], documents: dict[str, str]
    ) -> Iterator[dict[str, str | list[str] | None]]:
        for query, grades in self.grades.items():
            if query not in queries:
                what = f"{self.where}: query {query!r} is judged, but has no text"
                raise InputError(what, "use queries and judgements of the same release")
            present = {name: grade for name, grade in grades.items() if name in documents}
            positives = [name for name, grade in present.items() if grade > 0]
            negatives = [name for name, grade in present.items() if grade <= 0]
            if positives:
                yield {
                    "id": query,
                    "query": queries[query],
                    "pos": [documents[name] for name in positives],
                    "pos_ids": positives,
                    "neg": [documents[name] for name in negatives] if negatives else None,
                    "neg_ids": negatives or None,
                }

    def _note_missing(self, documents: int, queries: int) -> None:
        if documents:
            self.notes.append(
                f"{self.where}: {documents:,} judged documents have no text, left out"
            )
        if queries:
            text = f"{queries:,} judged queries have no relevant document, left out"
            self.notes.append(f"{self.where}: {text}")


def _texts(path: str, names: set[str]) -> dict[str, str]:
    """The texts with these ids, each with its title."""
    texts: dict[str, str] = {}
    for batch in Reader(Report("reader", quiet=True), [path], "texts", count=False):
        titles = schema.column(batch, "title", pa.string()).to_pylist()
        rows = zip(batch["id"].to_pylist(), titles, batch["text"].to_pylist())
        texts |= {name: titled(title, text) for name, title, text in rows if name in names}
    return texts


def choose_split(where: str, splits: Sequence[str], fix: str) -> str:
    """`train`, else the only split. Raises InputError for several others, with `fix`."""
    if "train" in splits:
        return "train"
    if len(splits) == 1:
        return splits[0]
    raise InputError(f"{where} has the splits {', '.join(splits)}, and none is train", fix)
