"""The options of csv2pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    NEGATIVES,
    LimitOptions,
    NegativesOptions,
    OutputOptions,
    PairOptions,
    SeedOptions,
    StandardOptions,
    TableReadingOptions,
    option,
    override,
    positional,
)


@dataclass(frozen=True, kw_only=True)
@override(
    "negatives",
    0,
    because="negatives are drawn on request: every row has to be read before the first draw",
    help="hard negatives per row, drawn without replacement",
    group=NEGATIVES,
)
class Options(
    TableReadingOptions,
    PairOptions,
    LimitOptions,
    NegativesOptions,
    OutputOptions,
    SeedOptions,
    StandardOptions,
):
    """What the command line of csv2pairs takes."""

    split: tuple[str, ...] = option(
        (),
        "e.g. train=0.8,dev=0.1,test=0.1; rows that share a text stay in one split; "
        "-o needs {split}",
        metavar="NAME=SHARE",
        group=IO,
    )
    split_by: tuple[str, ...] = option(
        (),
        "rows with the same value in one of these columns stay in one split",
        metavar="COL[,COL]",
        group=IO,
        advanced=True,
    )
    partition_by: Literal["domain", "category"] | None = option(
        None,
        "one file per value; -o needs {domain} or {category}, --texts-out may have it",
        group=IO,
        advanced=True,
        rows=False,
    )
    inputs: tuple[str, ...] = positional(
        "tables: files, folders, globs or URLs; none or - is stdin", "FILE"
    )
    texts_out: str | None = option(
        None,
        "also write the distinct texts of the pairs as `texts`",
        metavar="FILE",
        group=IO,
        advanced=True,
        rows=False,
        written=True,
    )
    texts_template: str | None = option(
        None,
        "template of one text per row for --texts-out, e.g. '{title} {body}'",
        metavar="TEXT",
        group=IO,
        advanced=True,
        rows=False,
    )

    @property
    def negatives_per_row(self) -> int:
        """--negatives as a number; None, which only a config file could say, is 0."""
        return self.negatives or 0
