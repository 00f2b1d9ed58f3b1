"""The options of csv2pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    LimitOptions,
    NegativesOptions,
    OutputOptions,
    SeedOptions,
    StandardOptions,
    option,
    override,
    positional,
)

TABLE = "the table"
PAIRS = "pairs"
NEGATIVES = "hard negatives"


@dataclass(frozen=True, kw_only=True)
@override(
    "negatives",
    0,
    because="negatives are drawn on request: every row has to be read before the first draw",
    help="hard negatives per row, drawn without replacement",
    group=NEGATIVES,
)
class Options(LimitOptions, NegativesOptions, OutputOptions, SeedOptions, StandardOptions):
    """What the command line of csv2pairs takes."""

    query: str | None = option(
        None,
        "column of the query, or a template of columns: '{name} by {brand}'",
        metavar="COL",
        group=PAIRS,
    )
    pos: tuple[str, ...] = option(
        (), "columns (or templates) of the positives", metavar="COL[,COL]", group=PAIRS
    )
    mode: Literal["each", "list", "fused", "group", "texts"] = option(
        "each",
        "each: one pair per positive; list: all positives in one row; fused: all in one text; "
        "group: rows with the same --category are each other's positives; "
        "texts: `texts` without queries",
        group=PAIRS,
    )
    neg: tuple[str, ...] = option(
        (),
        "columns of hard negatives that the table has",
        metavar="COL[,COL]",
        group=PAIRS,
        advanced=True,
    )
    template: str | None = option(
        None,
        "text from any columns, '{title}: {body}': the text of --mode fused, group and texts, "
        "an additional positive in the other modes ['col: value, col: value']",
        metavar="TEXT",
        group=PAIRS,
    )
    group_positives: int = option(
        3,
        "positives per row in --mode group; 0: every other row of the category",
        metavar="N",
        low=0,
        group=PAIRS,
        advanced=True,
    )
    category_positive: bool = option(
        False, "add the name of the category as a positive", group=PAIRS, advanced=True
    )
    id: str | None = option(
        None,
        "column of the row's id [a hash of its content]",
        metavar="COL",
        group=PAIRS,
        advanced=True,
    )
    pos_id: str | None = option(
        None,
        "column of the ids of the one --pos column",
        metavar="COL",
        group=PAIRS,
        advanced=True,
    )
    neg_id: str | None = option(
        None,
        "column of the ids of the one --neg column",
        metavar="COL",
        group=PAIRS,
        advanced=True,
    )
    score: str | None = option(
        None,
        "column of the scores of the one --pos column, e.g. of labelled sentence pairs",
        metavar="COL",
        group=PAIRS,
        advanced=True,
    )
    score_kind: Literal["label", "judge", "reranker", "cosine"] = option(
        "label", "what gave the --score", group=PAIRS, advanced=True
    )
    keep: tuple[str, ...] = option(
        (), "columns to copy to the output", metavar="COL[,COL]", group=PAIRS, advanced=True
    )
    separator: tuple[str, ...] = option(
        (),
        r"what separates several texts in a cell of a --pos or --neg column, synonyms=';'; "
        r"\t and \n are tab and line end",
        metavar="COL=TEXT",
        group=PAIRS,
        advanced=True,
    )
    category: str | None = option(
        None,
        "draw negatives from rows with the same value in this column",
        metavar="COL",
        group=NEGATIVES,
    )
    domain: str | None = option(
        None, "never draw negatives across values of this column", metavar="COL", group=NEGATIVES
    )
    shortfall: Literal["keep", "drop", "widen"] = option(
        "keep",
        "rows with fewer than K candidates: keep, drop, or widen the pool to the domain",
        group=NEGATIVES,
    )
    negatives_from: Literal["pos", "query"] = option(
        "pos",
        "which text of another row becomes a negative",
        group=NEGATIVES,
        advanced=True,
    )
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
    )
    texts_template: str | None = option(
        None,
        "template of one text per row for --texts-out, e.g. '{title} {body}'",
        metavar="TEXT",
        group=IO,
        advanced=True,
        rows=False,
    )
    encoding: str | None = option(
        None,
        "character encoding, e.g. cp949, shift-jis, cp1252, utf-16 "
        "[UTF-8, else the only one that decodes the file]",
        metavar="E",
        group=TABLE,
        advanced=True,
    )
    delimiter: str | None = option(
        None,
        r"CSV delimiter, one or more characters; \t is a tab [detected in the first line]",
        metavar="C",
        group=TABLE,
        advanced=True,
    )
    quote: str = option(
        '"',
        "CSV quote character; none: quotes are ordinary characters",
        metavar="C",
        group=TABLE,
        advanced=True,
    )
    escape: str | None = option(
        None,
        "CSV escape character, e.g. a backslash",
        metavar="C",
        group=TABLE,
        advanced=True,
    )
    columns: tuple[str, ...] = option(
        (),
        "column names of a CSV without a header line",
        metavar="COL,COL",
        group=TABLE,
        advanced=True,
    )
    null: tuple[str, ...] = option(
        (), "cells with this text count as empty", metavar="TEXT", group=TABLE, advanced=True
    )
    sheet: str | None = option(
        None, "sheet of a workbook [the first one]", metavar="NAME", group=TABLE, advanced=True
    )
    bad_rows: Literal["refuse", "drop"] = option(
        "refuse",
        "rows that do not decode, are not JSON objects, or have the wrong number of cells, "
        "or scores that are no numbers",
        group=TABLE,
        advanced=True,
    )

    @property
    def negatives_per_row(self) -> int:
        """--negatives as a number; None, which only a config file could say, is 0."""
        return self.negatives or 0
