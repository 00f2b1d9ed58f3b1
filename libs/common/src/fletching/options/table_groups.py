"""Options of tools that read tables of any columns and make pairs of their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options.fields import option

TABLE = "the table"
PAIRS = "pairs"
NEGATIVES = "hard negatives"


@dataclass(frozen=True, kw_only=True)
class TableReadingOptions:
    """A tool that reads tables: how a file becomes rows of cells."""

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


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """A tool that makes pairs of table rows: which columns are queries and which answer them."""

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
