"""The options of arrowcat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    LimitOptions,
    OutputOptions,
    SeedOptions,
    StandardOptions,
    option,
    override,
    positional,
)

# Headings in --help.
VIEW = "what to show (one of them; without one, the first rows)"
ROWS = "which rows"


@dataclass(frozen=True, kw_only=True)
@override(
    "output",
    None,
    because="stdout carries what people read",
    help="write the rows: FILE.parquet, .arrow, .jsonl …; - is an Arrow stream on stdout",
)
class Options(OutputOptions, LimitOptions, SeedOptions, StandardOptions):
    """Inputs, which of their rows, and how they are shown or written."""

    inputs: tuple[str, ...] = positional(
        "Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin", "FILE"
    )

    # --- what to show

    stats: bool = option(
        False, "lengths, nulls, duplicates, scores and negatives in figures", group=VIEW, rows=False
    )
    check: bool = option(
        False,
        "every row that breaks the contract, with its value; exit with 1 if there is one",
        group=VIEW,
        rows=False,
    )
    lineage: bool = option(
        False, "which tools made the rows, with their options and drops", group=VIEW, rows=False
    )
    html: str | None = option(
        None,
        "one page with charts, hard negatives, near duplicates and samples",
        metavar="PAGE",
        group=VIEW,
        rows=False,
        written=True,
    )

    # --- which rows

    head: int | None = option(
        None, "the first N rows [10 to look at]", metavar="N", low=1, group=ROWS
    )
    sample: int | None = option(
        None, "N rows drawn at random, in their order", metavar="N", low=1, group=ROWS
    )
    where: str | None = option(
        None,
        'rows for which a SQL expression of polars holds: "len(query) > 20 and len(neg) = 0"',
        metavar="SQL",
        group=ROWS,
    )

    # --- how

    to: str | None = option(
        None,
        "write rows as other programs have them: flag-embedding, n-tuple, tevatron, beir …",
        metavar="FORMAT",
        group=IO,
        rows=False,
    )
    schema: Literal["examples", "texts", "vectors", "candidates", "tasks", "measures"] | None = (
        option(None, "read the rows as these [by stamp or columns]", group=IO, advanced=True)
    )
    tokenizer: str | None = option(
        None,
        "measure lengths in tokens of this model, a folder or a hub name [characters]",
        metavar="M",
        group=VIEW,
        rows=False,
    )
