"""The options of texts2pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    LimitOptions,
    OutputOptions,
    RejectsOptions,
    SeedOptions,
    StandardOptions,
    option,
    positional,
)

QUERIES = "queries"
Kind = Literal["title", "heading", "first-sentence", "cloze", "first-words", "docstring"]


@dataclass(frozen=True, kw_only=True)
class Options(
    LimitOptions,
    OutputOptions,
    RejectsOptions,
    SeedOptions,
    StandardOptions,
):
    """One command line of texts2pairs."""

    inputs: tuple[str, ...] = positional(
        "texts: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin",
        "TEXTS",
    )
    kinds: tuple[
        Literal["title", "heading", "first-sentence", "cloze", "first-words", "docstring"], ...
    ] = option(
        ("title", "heading", "first-sentence", "cloze", "first-words", "docstring"),
        "what becomes a query: the title of a document, the heading of a section, the first "
        "sentence, a random other one, the first words of a text without any of these, a "
        "docstring or leading comment of code",
        metavar="KIND,KIND",
        group=QUERIES,
    )
    min_words: int = option(
        2, "drop queries of fewer words; sentences have four at least", low=1, group=QUERIES
    )
    min_left: int = option(
        5, "keep so many words of a text at least, however many queries it gives", group=QUERIES
    )
    queries: str | None = option(
        None,
        "also pairs of queries that were written for these texts: examples whose `pos_ids` name "
        "them, as synthgen makes",
        metavar="FILE",
        group=QUERIES,
    )
    corpus_out: str | None = option(
        None,
        "also write all texts as the positives are: without titles and queries",
        metavar="FILE",
        group=IO,
        rows=False,
    )
