"""The options of csv2pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import IO, OutputOptions, SeedOptions, StandardOptions, option, positional

TABLE = "the table"
PAIRS = "pairs"
NEGATIVES = "hard negatives"


@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions, SeedOptions, StandardOptions):
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
        "each: a pair for every positive; list: all in one row; fused: all in one text; group: rows of one --category are each other's positives; texts: `texts` without queries",
        group=PAIRS,
    )
    template: str | None = option(
        None,
        "text of any columns, '{title}: {body}': the text of --mode fused, group or texts, one more positive of the others ['col: value, col: value']",
        metavar="TEXT",
        group=PAIRS,
    )
    positives: int = option(
        3,
        "positives of a row in --mode group; 0 is every other row of the category",
        metavar="N",
        low=0,
        group=PAIRS,
        advanced=True,
    )
    category_positive: bool = option(
        False, "the category is a positive too", group=PAIRS, advanced=True
    )
    id: str | None = option(
        None,
        "column of the row's id [a hash of its content]",
        metavar="COL",
        group=PAIRS,
        advanced=True,
    )
    keep: tuple[str, ...] = option(
        (), "columns to pass through", metavar="COL[,COL]", group=PAIRS, advanced=True
    )
    negatives: int = option(
        0, "hard negatives of a row, drawn without replacement", metavar="K", low=0, group=NEGATIVES
    )
    category: str | None = option(
        None, "draw them from the same value of this column", metavar="COL", group=NEGATIVES
    )
    domain: str | None = option(
        None, "never draw them across values of this column", metavar="COL", group=NEGATIVES
    )
    shortfall: Literal["keep", "drop", "widen"] = option(
        "keep",
        "fewer than K there: keep what there is, drop the row, or widen to the domain",
        group=NEGATIVES,
    )
    negatives_from: Literal["pos", "query"] = option(
        "pos", "what of another row becomes a negative", group=NEGATIVES, advanced=True
    )
    split: tuple[str, ...] = option(
        (),
        "e.g. train=0.8,dev=0.1,test=0.1; rows with a text in common never part; -o needs {split}",
        metavar="NAME=SHARE",
        group=IO,
    )
    split_by: tuple[str, ...] = option(
        (),
        "rows with one value in such a column stay in one split",
        metavar="COL[,COL]",
        group=IO,
        advanced=True,
    )
    partition_by: Literal["domain", "category"] | None = option(
        None,
        "a file for each; -o needs {domain} or {category}",
        group=IO,
        advanced=True,
        rows=False,
    )
    inputs: tuple[str, ...] = positional(
        "tables: files, folders, globs or URLs; none or - is stdin", "FILE"
    )
    texts_out: str | None = option(
        None,
        "write every text of the pairs once, as `texts`",
        metavar="FILE",
        group=IO,
        advanced=True,
        rows=False,
    )
    texts_template: str | None = option(
        None,
        "one text a row for --texts-out, e.g. '{title} {body}'",
        metavar="TEXT",
        group=IO,
        advanced=True,
        rows=False,
    )
    limit: int | None = option(
        None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True
    )
    encoding: str | None = option(
        None,
        "of text, e.g. cp949, shift-jis, cp1252, utf-16 [UTF-8, else the only one that fits]",
        metavar="E",
        group=TABLE,
        advanced=True,
    )
    delimiter: str | None = option(
        None,
        r"between the cells of CSV, one or more characters; \t is a tab [found in the first line]",
        metavar="C",
        group=TABLE,
        advanced=True,
    )
    quote: str = option(
        '"',
        "around cells of CSV that hold a delimiter or a line end; none: quotes are letters",
        metavar="C",
        group=TABLE,
        advanced=True,
    )
    escape: str | None = option(
        None,
        "makes the next character of CSV a plain one, e.g. a backslash",
        metavar="C",
        group=TABLE,
        advanced=True,
    )
    columns: tuple[str, ...] = option(
        (),
        "names of the columns of a CSV without a header line",
        metavar="COL,COL",
        group=TABLE,
        advanced=True,
    )
    null: tuple[str, ...] = option(
        (), "cells with this text are empty", metavar="TEXT", group=TABLE, advanced=True
    )
    bad_rows: Literal["refuse", "drop"] = option(
        "refuse",
        "rows that do not decode, are no JSON, or have too few or too many cells",
        group=TABLE,
        advanced=True,
    )
