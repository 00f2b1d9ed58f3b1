"""csv2pairs: tables in, training pairs out.

Reads    CSV, TSV, JSONL, Parquet or Arrow with any columns; every cell is text exactly as written
Writes   examples: a query, its positives and, with --negatives, other rows' positives as hard negatives
Holds    8 bytes a row; with --negatives, --split or --mode group about 100 bytes a row, rows wait on disk

  csv2pairs faq.csv --query question --pos answer --category topic --negatives 5 -o pairs.parquet
  csv2pairs shop.csv --query name --pos title,text --mode list --split train=0.9,test=0.1 -o '{split}.parquet'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, Output, Seed, Standard
from fletching.report import Report

TABLE = "the table"
PAIRS = "pairs"
NEGATIVES = "hard negatives"


@dataclass(frozen=True, kw_only=True)
class Options(Output, Seed, Standard):
    query: str | None = cli.option(None, "column of the query", metavar="COL", group=PAIRS)
    pos: tuple[str, ...] = cli.option((), "columns of the positives", metavar="COL[,COL]", group=PAIRS)
    mode: Literal["each", "list", "fused", "group", "texts"] = cli.option(
        "each", "each: a pair for every positive; list: all in one row; fused: all in one text; group: rows of one --category are each other's positives; texts: `texts` without queries", group=PAIRS
    )
    template: str | None = cli.option(None, "text of --mode fused or texts, e.g. '{title}: {body}' ['col: value, col: value']", metavar="TEXT", group=PAIRS)
    positives: int = cli.option(3, "positives of a row in --mode group", metavar="N", low=1, group=PAIRS, advanced=True)
    category_positive: bool = cli.option(False, "the category is a positive too", group=PAIRS, advanced=True)
    id: str | None = cli.option(None, "column of the row's id [a hash of its content]", metavar="COL", group=PAIRS, advanced=True)
    keep: tuple[str, ...] = cli.option((), "columns to pass through", metavar="COL[,COL]", group=PAIRS, advanced=True)
    negatives: int = cli.option(0, "hard negatives of a row, drawn without replacement", metavar="K", low=0, group=NEGATIVES)
    category: str | None = cli.option(None, "draw them from the same value of this column", metavar="COL", group=NEGATIVES)
    domain: str | None = cli.option(None, "never draw them across values of this column", metavar="COL", group=NEGATIVES)
    shortfall: Literal["keep", "drop", "widen"] = cli.option("keep", "fewer than K there: keep what there is, drop the row, or widen to the domain", group=NEGATIVES)
    negatives_from: Literal["pos", "query"] = cli.option("pos", "column a negative comes from", group=NEGATIVES, advanced=True)
    split: tuple[str, ...] = cli.option((), "e.g. train=0.8,dev=0.1,test=0.1; equal texts never part; -o needs {split}", metavar="NAME=SHARE", group=IO)
    split_by: str | None = cli.option(None, "rows of one value of this column stay in one split", metavar="COL", group=IO, advanced=True)
    inputs: tuple[str, ...] = cli.positional("tables: files, folders, globs or URLs; none or - is stdin", "FILE")
    texts_out: str | None = cli.option(None, "write every text as `texts` too", metavar="FILE", group=IO, advanced=True, rows=False)
    limit: int | None = cli.option(None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True)
    encoding: str | None = cli.option(None, "of CSV, e.g. cp949, shift-jis, cp1252 [UTF-8, else the only one that fits]", metavar="E", group=TABLE, advanced=True)
    delimiter: str | None = cli.option(None, r"of CSV; \t is a tab [found in the first line]", metavar="C", group=TABLE, advanced=True)
    columns: tuple[str, ...] = cli.option((), "names of the columns of a CSV without a header line", metavar="COL,COL", group=TABLE, advanced=True)
    null: tuple[str, ...] = cli.option((), "cells with this text are empty", metavar="TEXT", group=TABLE, advanced=True)
    bad_rows: Literal["refuse", "drop"] = cli.option("refuse", "rows with too few or too many cells", group=TABLE, advanced=True)


def check(options: Options) -> dict[str, float]:
    """The splits asked for; Usage where options contradict each other."""
    texts = options.mode == "texts"
    if texts and not (options.template or options.pos):
        raise Usage("--mode texts has nothing to write", "pass --template '{col} {col}' or --pos COL,COL")
    if not texts and options.query is None:
        raise Usage("--query is missing", "name the column that holds the query: --query COL")
    if options.mode in ("each", "list") and not options.pos:
        raise Usage("--pos is missing", "name the columns that hold the positives: --pos COL[,COL]")
    if options.mode == "fused" and not (options.pos or options.template):
        raise Usage("--pos is missing", "name the columns to fuse, --pos COL,COL, or give a --template")
    if options.mode == "group" and not options.category:
        raise Usage("--mode group needs --category", "name the column whose equal values make rows each other's positives")
    if options.category_positive and not options.category:
        raise Usage("--category-positive needs --category", "name the column")
    if texts and (options.negatives or options.split or options.texts_out):
        raise Usage("--mode texts has neither negatives nor splits nor --texts-out", "leave them out, or choose another mode")
    return _splits(options)


def _splits(options: Options) -> dict[str, float]:
    shares: dict[str, float] = {}
    for item in options.split:
        name, _, share = item.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise Usage(f"--split {item!r} is no NAME=SHARE", "write e.g. --split train=0.8,test=0.2") from None
    if shares and (abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0):
        raise Usage(f"the shares of --split add up to {sum(shares.values()):g}", "let them add up to 1")
    if bool(shares) != ("{split}" in (options.output or "")):
        raise Usage("--split and a -o with {split} belong together", "write e.g. --split train=0.8,test=0.2 -o 'pairs.{split}.parquet'")
    return shares


def run(options: Options, report: Report) -> None:
    shares = check(options)

    from csv2pairs import outputs
    from csv2pairs.table import Table

    table = Table(options, report)
    write = outputs.write_texts if options.mode == "texts" else outputs.write_examples
    write(table, options, shares, report, dict(version=TOOL.version, options=cli.row_options(options)))


TOOL = cli.Tool("csv2pairs", Options, run, __doc__, "csv2pairs FILE... --query COL --pos COL[,COL] [--category COL] [--negatives K] [-o OUT]")


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
