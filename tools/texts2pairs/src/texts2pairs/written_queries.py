"""Queries that were written for the texts, by an LLM say: they join those taken out of them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from fletching import schema
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report
from fletching.text import normalise

COPIED_WORDS = 5  # fewer stand in a text by chance: keywords are a text's own words
FIX = "texts2pairs TEXTS --queries FILE, where synthgen TEXTS --job queries wrote FILE"


class WrittenQueries:
    """The queries of each text, in the order of their file; in memory.

    file: `examples` whose one `pos_ids` is a text's id. Raises InputError for a row without it.
    """

    def __init__(self, report: Report, file: str | None) -> None:
        self.report = report
        self.file = file
        self.reader = Reader(report, [file], "examples", count=False) if file else None
        self.by_text: dict[str, list[str]] = {}

    def read(self) -> None:
        """Read the file."""
        if self.reader is None:
            return
        row = 0
        for batch in self.reader:
            ids = schema.column(batch, "pos_ids", pa.list_(pa.string())).to_pylist()
            for query, texts in zip(batch["query"].to_pylist(), ids, strict=True):
                row += 1
                if texts is None or len(texts) != 1:
                    what = f"{self.file}, row {row}: `pos_ids` is {texts}, not the id of one text"
                    raise InputError(what, FIX)
                self.by_text.setdefault(texts[0], []).append(query)

    def of(self, text_id: str) -> Sequence[str]:
        """The queries of a text."""
        return self.by_text.get(text_id, ())

    def tell_missing(self, text_ids: set[str]) -> None:
        """Note queries of texts that are not here. Raises InputError if it is all of them."""
        missing = self.by_text.keys() - text_ids
        if not missing:
            return
        first = f"the first is {min(missing)!r}"
        if len(missing) == len(self.by_text):
            raise InputError(f"{self.file}: no `pos_ids` is an id of these texts; {first}", FIX)
        queries = sum(len(self.by_text[text]) for text in missing)
        self.report.note(
            f"{self.file}: {queries:,} queries are of {len(missing):,} texts that are not here, "
            f"and left out; {first}"
        )


def is_copied(query: str, text: str) -> bool:
    """Is a query a passage of its text?"""
    return len(query.split()) >= COPIED_WORDS and normalise(query) in normalise(text)
