"""A retrieval collection: queries, documents and relevance judgements.

Memory: all texts, since mteb holds them too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import xxhash

from fletching.qrels import Grades


@dataclass(frozen=True, kw_only=True)
class RetrievalCollection:
    """Queries and documents by id, and which documents are relevant to which query.

    relevant: grades by query id and document id. prompts: the data's own prompt by query id.
    candidates: the documents that are ranked for a query; None: all of them.
    is_reversed: the queries are the documents of the data, and the other way round.
    ignore_identical_ids: a document with the id of a query is not ranked for it.
    """

    name: str
    split: str
    queries: dict[str, str]
    documents: dict[str, str]
    relevant: Grades
    prompts: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, list[str]] | None = None
    is_reversed: bool = False
    ignore_identical_ids: bool = False

    def digest(self) -> str:
        """xxh3-128 of all that decides a score; the order of the rows does not."""
        content: list[Any] = [
            sorted(self.queries.items()),
            sorted(self.documents.items()),
            sorted(self.prompts.items()),
            sorted((query, sorted(grades.items())) for query, grades in self.relevant.items()),
        ]
        candidates = sorted((self.candidates or {}).items())
        content.append([self.is_reversed, self.ignore_identical_ids, *candidates])
        whole = xxhash.xxh3_128()
        for part in content:
            whole.update(repr(part).encode())
        return whole.hexdigest()
