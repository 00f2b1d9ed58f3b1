"""Rows of `examples` as a retrieval collection: corpus, queries and judgements, in a new folder.

Memory: 100 bytes for each document and each row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

from fletching.errors import InputError, UsageError
from fletching.io.row_formats.row_format import Batches, WriteAccount
from fletching.io.row_formats.writing import Row, count_lost, read_rows
from fletching.table import atomic
from fletching.text import content_id, text_hash

CARRIED = ("id", "query", "pos", "neg", "pos_ids", "neg_ids")
COLUMNS = ("query-id", "corpus-id", "score")  # of judgements


@contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A folder to fill, which appears as `path` when the block ends without an exception.

    Raises UsageError where the path is taken.
    """
    path = path.rstrip("/")
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise UsageError(f"-o {path} exists", "name a new folder, or remove it first")
    with atomic.new_folder(path) as folder:
        yield folder


def write_collection(batches: Batches, path: str, judgements: str) -> WriteAccount:
    """Write corpus.jsonl, queries.jsonl and the judgements; negatives are judged 0.

    judgements: the name of their file in the folder: .tsv with a header, or .jsonl.
    """
    account = WriteAccount()
    with new_folder(path) as folder, ExitStack() as stack:
        os.mkdir(os.path.join(folder, os.path.dirname(judgements)))
        collection = CollectionFiles(
            account,
            corpus=_create(stack, folder, "corpus.jsonl"),
            queries=_create(stack, folder, "queries.jsonl"),
            judgements=_create(stack, folder, judgements),
            is_tsv=judgements.endswith(".tsv"),
        )
        for row in read_rows(batches, account, CARRIED):
            collection.add(row)
    return account


def _create(stack: ExitStack, folder: str, name: str) -> TextIO:
    path = os.path.join(folder, name)
    return stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))


class CollectionFiles:
    """The three files of a collection, each document and query written once."""

    def __init__(
        self,
        account: WriteAccount,
        *,
        corpus: TextIO,
        queries: TextIO,
        judgements: TextIO,
        is_tsv: bool,
    ) -> None:
        self.account, self.is_tsv = account, is_tsv
        self.corpus, self.queries, self.judgements = corpus, queries, judgements
        if is_tsv:
            self.judgements.write("\t".join(COLUMNS) + "\n")
        self.hash_of_document: dict[str, str] = {}  # by id
        self.judged: set[str] = set()  # query ids

    def add(self, row: Row) -> None:
        """Write the query, its documents where they are new, and their grades."""
        query = _checked_id(row["id"])
        if query in self.judged:
            count_lost(self.account, "rows with the id of an earlier row, left out")
            return
        self.judged.add(query)
        _write_line(self.queries, {"_id": query, "text": row["query"]})
        if row.get("neg") == []:
            count_lost(self.account, "rows that were mined without a negative")
        grades: dict[str, int] = {}
        for side, grade in (("pos", 1), ("neg", 0)):
            texts = row.get(side) or []
            names = row.get(f"{side}_ids") or [None] * len(texts)
            for name, text in zip(names, texts):
                document = self._document(name, text)
                if document in grades:
                    count_lost(self.account, "documents that a row holds twice")
                grades.setdefault(document, grade)
        for document, grade in grades.items():
            self._judge(query, document, grade)

    def _judge(self, query: str, document: str, grade: int) -> None:
        if self.is_tsv:
            self.judgements.write(f"{query}\t{document}\t{grade}\n")
        else:
            _write_line(self.judgements, dict(zip(COLUMNS, (query, document, grade))))
        self.account.records += 1

    def _document(self, name: str | None, text: str) -> str:
        """The id of a document, which is written where it is new."""
        name = _checked_id(name or content_id(text))
        digest = text_hash(text)
        if self.hash_of_document.get(name, digest) != digest:
            count_lost(self.account, "document ids that another text has")
            name = content_id(text)
        if name not in self.hash_of_document:
            self.hash_of_document[name] = digest
            _write_line(self.corpus, {"_id": name, "title": "", "text": text})
        return name


def _write_line(file: TextIO, record: Row) -> None:
    file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")


def _checked_id(name: str) -> str:
    """The id. Raises InputError where a line of judgements cannot hold it."""
    if set(name).isdisjoint("\t\r\n") and name:
        return name
    raise InputError(f"id {name!r} is empty or holds a tab or line end", "give the row another id")
