"""A retrieval collection (queries, documents, judgements) from `examples` or from a BEIR folder.

Held in memory: all texts, since mteb holds them too.
"""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import xxhash

from fletching import schema
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report
from fletching.seeded_random import permuted
from fletching.text import content_id


@dataclass(frozen=True)
class Collection:
    """Queries, documents and which answers which. `relevant` holds grades by query id, then document id."""

    name: str
    split: str
    queries: dict[str, str]
    documents: dict[str, str]
    relevant: dict[str, dict[str, int]]
    prompts: dict[str, str] = field(default_factory=dict)  # the data's own prompt, by query id
    candidates: dict[str, list[str]] | None = (
        None  # the documents that compete for a query; None: all of them
    )
    reversed: bool = False  # the documents of the data search for its queries
    without_itself: bool = False  # a document with the id of a query is left out for it

    def digest(self) -> str:
        """xxh3-128 of everything that decides a score, but the order of the rows."""
        whole = xxhash.xxh3_128()
        parts: list[Any] = [
            sorted(part.items()) for part in (self.queries, self.documents, self.prompts)
        ]
        parts.append(
            sorted((query, sorted(grades.items())) for query, grades in self.relevant.items())
        )
        parts.append([self.reversed, self.without_itself, *sorted((self.candidates or {}).items())])
        for part in parts:
            whole.update(repr(part).encode())
        return whole.hexdigest()


# --- from examples -------------------------------------------------------------------------------


class _Documents:
    """Distinct documents: by id where the data gives one, else by text."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}
        self.ids: dict[str, str] = {}  # text: id
        self.other_text = 0

    def add(self, text: str, name: str | None = None) -> str:
        """The id of the document; a known id keeps its first text, a known text its first id."""
        if name is not None and name in self.by_id:
            self.other_text += self.by_id[name] != text
            return name
        if text in self.ids:
            return self.ids[text]
        name = name or content_id(text)
        self.by_id[name] = text
        self.ids[text] = name
        return name


def from_examples(
    report: Report,
    name: str,
    inputs: Sequence[str],
    *,
    corpus: Sequence[str] = (),
    with_negatives: bool = False,
    limit: int | None = None,
    reverse: bool = False,
) -> Collection:
    """Each distinct query with the positives of all its rows; the documents are all distinct positives,
    the texts of `corpus` and, with `with_negatives`, the negatives of the rows. `reverse`: the positives
    search for the queries."""
    documents = _Documents()
    if corpus:
        for batch in Reader(report, corpus, "texts", count=False):
            titles = schema.column(batch, "title", pa.string()).to_pylist()
            for identity, title, text in zip(
                batch["id"].to_pylist(), titles, batch["text"].to_pylist()
            ):
                documents.add(f"{title} {text}" if title else text, identity)
    rows = Reader(report, inputs, "examples", limit=limit)
    relevant: dict[str, dict[str, int]] = {}  # by query text
    prompts: dict[str, str] = {}
    for batch in rows:
        for row in _turned(batch.to_pylist()) if reverse else batch.to_pylist():
            query = row["query"]
            grades = relevant.setdefault(query, {})
            for text, identity in zip(row["pos"], row.get("pos_ids") or [None] * len(row["pos"])):
                grades[documents.add(text, identity)] = 1
            if with_negatives and row.get("neg"):
                for text, identity in zip(
                    row["neg"], row.get("neg_ids") or [None] * len(row["neg"])
                ):
                    documents.add(text, identity)
            if (
                row.get("prompt") is not None
                and prompts.setdefault(query, row["prompt"]) != row["prompt"]
            ):
                raise InputError(
                    f"{name}: the query {query[:60]!r} stands there with two prompts",
                    "keep one of them",
                )
    if not relevant:
        raise InputError(
            f"{name} ({', '.join(inputs)}) holds no rows",
            "name a file of examples with held-out queries",
        )
    if documents.other_text:
        report.note(
            f"{name}: {documents.other_text:,} texts differ from the first text with their id, which is used"
        )
    return _collection(report, name, documents, relevant, prompts, reverse)


def _collection(
    report: Report,
    name: str,
    documents: _Documents,
    relevant: dict[str, dict[str, int]],
    prompts: dict[str, str],
    reverse: bool,
) -> Collection:
    """Gives the queries ids. One that stands among the documents, and is no answer to itself, gets that
    document's id: mteb then leaves the document out for it, since finding oneself is no success."""
    found = {query: documents.ids.get(query) for query in relevant}
    itself = {
        query: identity
        for query, identity in found.items()
        if identity is not None and identity not in relevant[query]
    }
    if itself:
        report.note(
            f"{name}: {len(itself):,} queries stand among the documents; a query is not counted as finding itself"
        )
    ids = {query: itself.get(query) or content_id("query", query) for query in relevant}
    return Collection(
        name,
        "test",
        {ids[query]: query for query in relevant},
        documents.by_id,
        {ids[query]: grades for query, grades in relevant.items()},
        {ids[query]: prompt for query, prompt in prompts.items()},
        reversed=reverse,
        without_itself=bool(itself),
    )


def _turned(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows in which each positive asks for the query."""
    for row in rows:
        yield from ({"query": text, "pos": [row["query"]]} for text in row["pos"])


def in_blocks(
    report: Report,
    name: str,
    inputs: Sequence[str],
    size: int,
    *,
    seed: int,
    reverse: bool = False,
    limit: int | None = None,
) -> Collection:
    """The rows shuffled and cut into blocks of `size`: each query has the positives of its block as candidates.

    The protocol of CodeSearchNet (Husain et al. 2019): one positive (the first) among size - 1 distractors,
    equal texts stay apart, rows beyond the last whole block are left out.
    """
    rows = [
        row
        for batch in Reader(report, inputs, "examples", limit=limit)
        for row in batch.select(["query", "pos"]).to_pylist()
    ]
    if len(rows) < size:
        raise InputError(
            f"{name} holds {len(rows):,} rows, less than --candidates {size}",
            f"pass --candidates {len(rows)} or fewer",
        )
    order = list(permuted(seed, name, len(rows)))[: len(rows) // size * size]
    asked, answers = ("pos", "query") if reverse else ("query", "pos")
    texts = {
        key: {row: rows[row][key] if key == "query" else rows[row][key][0] for row in order}
        for key in ("query", "pos")
    }
    if len(rows) > len(order):
        report.note(
            f"{name}: {len(rows) - len(order):,} rows beyond the last block of {size:,} are left out"
        )
    candidates: dict[str, list[str]] = {}
    for start in range(0, len(order), size):
        block = [f"d{row}" for row in order[start : start + size]]
        candidates |= {f"q{row}": block for row in order[start : start + size]}
    queries = {f"q{row}": text for row, text in texts[asked].items()}
    documents = {f"d{row}": text for row, text in texts[answers].items()}
    relevant = {f"q{row}": {f"d{row}": 1} for row in order}
    return Collection(
        f"{name}-{size}",
        "test",
        queries,
        documents,
        relevant,
        candidates=candidates,
        reversed=reverse,
    )


# --- from a BEIR folder --------------------------------------------------------------------------


def from_beir(report: Report, name: str, folder: str, split: str) -> Collection:
    """The judged queries of qrels/<split>.tsv, and the whole corpus; title and text joined by a blank."""
    grades = _qrels(os.path.join(folder, "qrels", f"{split}.tsv"))
    documents = {}
    for batch in Reader(report, [_one(folder, "corpus")], "texts", count=False):
        titles = schema.column(batch, "title", pa.string()).to_pylist()
        for identity, title, text in zip(
            batch["id"].to_pylist(), titles, batch["text"].to_pylist()
        ):
            documents[identity] = f"{title} {text}" if title else text
    queries: dict[str, str] = {}
    for batch in Reader(report, [_one(folder, "queries")], "texts"):
        found = zip(batch["id"].to_pylist(), batch["text"].to_pylist())
        queries |= {identity: text for identity, text in found if identity in grades}
    missing = next((query for query in grades if query not in queries), None)
    if missing is not None:
        raise InputError(
            f"{folder}: qrels/{split}.tsv judges query {missing!r}, which queries.jsonl does not hold",
            "use files of the same release",
        )
    relevant = {
        query: judged
        for query, judged in grades.items()
        if any(grade > 0 for grade in judged.values())
    }
    if len(relevant) < len(grades):
        report.note(
            f"{name}: {len(grades) - len(relevant):,} queries without a relevant document are left out"
        )
    if not relevant:
        raise InputError(
            f"{folder}/qrels/{split}.tsv holds no positive judgement", "pass another --split"
        )
    return Collection(
        name, split, {query: queries[query] for query in relevant}, documents, relevant
    )


def _one(folder: str, stem: str) -> str:
    found = sorted(
        path
        for path in glob.glob(os.path.join(glob.escape(folder), f"{stem}.*"))
        if not path.endswith(".md")
    )
    if len(found) != 1:
        raise InputError(
            f"{folder} holds {len(found)} files {stem}.*",
            f"a BEIR folder has one {stem}.jsonl, .jsonl.gz or .parquet",
        )
    return found[0]


def _qrels(path: str) -> dict[str, dict[str, int]]:
    """Grades by query and document of a TSV with the columns query-id, corpus-id, score."""
    if not os.path.exists(path):
        there = sorted(
            os.path.basename(other)[:-4]
            for other in glob.glob(os.path.join(glob.escape(os.path.dirname(path)), "*.tsv"))
        )
        raise InputError(
            f"{path} does not exist",
            f"pass --split {'|'.join(there)}" if there else "a BEIR folder has qrels/test.tsv",
        )
    grades: dict[str, dict[str, int]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if number == 1 and row[-1:] == ["score"]:
                continue
            try:
                query, document, grade = row
                grades.setdefault(query, {})[document] = int(grade)
            except ValueError:
                raise InputError(
                    f"{path}, line {number:,}: {row!r}",
                    "write query-id, corpus-id and a whole number, tab between",
                ) from None
    return grades
