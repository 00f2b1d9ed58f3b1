"""csv2pairs: tables in, training pairs out.

Reads    CSV, TSV, JSONL, Parquet or Arrow with any columns; every cell is text exactly as written
Writes   examples: a query, its positives and, with --negatives, other rows' positives as negatives
Holds    8 bytes a row; with --negatives, --split or --mode group about 100 bytes, rows wait on disk

  csv2pairs faq.csv --query question --pos answer --category topic --negatives 5 -o pairs.parquet
  csv2pairs shop.csv --query name --pos title,text --split train=0.9,test=0.1 -o '{split}.parquet'
"""

from __future__ import annotations

import contextlib
import os
import sys
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
    query: str | None = cli.option(None, "column of the query, or a template of columns: '{name} by {brand}'", metavar="COL", group=PAIRS)
    pos: tuple[str, ...] = cli.option((), "columns (or templates) of the positives", metavar="COL[,COL]", group=PAIRS)
    mode: Literal["each", "list", "fused", "group", "texts"] = cli.option(
        "each",
        "each: a pair for every positive; list: all in one row; fused: all in one text; group: rows of one --category are each other's positives; texts: `texts` without queries",
        group=PAIRS,
    )
    template: str | None = cli.option(
        None,
        "text of any columns, '{title}: {body}': the text of --mode fused, group or texts, one more positive of the others ['col: value, col: value']",
        metavar="TEXT",
        group=PAIRS,
    )
    positives: int = cli.option(
        3, "positives of a row in --mode group; 0 is every other row of the category", metavar="N", low=0, group=PAIRS, advanced=True
    )
    category_positive: bool = cli.option(False, "the category is a positive too", group=PAIRS, advanced=True)
    id: str | None = cli.option(None, "column of the row's id [a hash of its content]", metavar="COL", group=PAIRS, advanced=True)
    keep: tuple[str, ...] = cli.option((), "columns to pass through", metavar="COL[,COL]", group=PAIRS, advanced=True)
    negatives: int = cli.option(0, "hard negatives of a row, drawn without replacement", metavar="K", low=0, group=NEGATIVES)
    category: str | None = cli.option(None, "draw them from the same value of this column", metavar="COL", group=NEGATIVES)
    domain: str | None = cli.option(None, "never draw them across values of this column", metavar="COL", group=NEGATIVES)
    shortfall: Literal["keep", "drop", "widen"] = cli.option(
        "keep", "fewer than K there: keep what there is, drop the row, or widen to the domain", group=NEGATIVES
    )
    negatives_from: Literal["pos", "query"] = cli.option("pos", "what of another row becomes a negative", group=NEGATIVES, advanced=True)
    split: tuple[str, ...] = cli.option(
        (), "e.g. train=0.8,dev=0.1,test=0.1; rows with a text in common never part; -o needs {split}", metavar="NAME=SHARE", group=IO
    )
    split_by: tuple[str, ...] = cli.option(
        (), "rows with one value in such a column stay in one split", metavar="COL[,COL]", group=IO, advanced=True
    )
    partition_by: Literal["domain", "category"] | None = cli.option(
        None, "a file for each; -o needs {domain} or {category}", group=IO, advanced=True, rows=False
    )
    inputs: tuple[str, ...] = cli.positional("tables: files, folders, globs or URLs; none or - is stdin", "FILE")
    texts_out: str | None = cli.option(
        None, "write every text of the pairs once, as `texts`", metavar="FILE", group=IO, advanced=True, rows=False
    )
    texts_template: str | None = cli.option(
        None, "one text a row for --texts-out, e.g. '{title} {body}'", metavar="TEXT", group=IO, advanced=True, rows=False
    )
    limit: int | None = cli.option(None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True)
    encoding: str | None = cli.option(
        None, "of text, e.g. cp949, shift-jis, cp1252, utf-16 [UTF-8, else the only one that fits]", metavar="E", group=TABLE, advanced=True
    )
    delimiter: str | None = cli.option(
        None,
        r"between the cells of CSV, one or more characters; \t is a tab [found in the first line]",
        metavar="C",
        group=TABLE,
        advanced=True,
    )
    quote: str = cli.option(
        '"', "around cells of CSV that hold a delimiter or a line end; none: quotes are letters", metavar="C", group=TABLE, advanced=True
    )
    escape: str | None = cli.option(
        None, "makes the next character of CSV a plain one, e.g. a backslash", metavar="C", group=TABLE, advanced=True
    )
    columns: tuple[str, ...] = cli.option(
        (), "names of the columns of a CSV without a header line", metavar="COL,COL", group=TABLE, advanced=True
    )
    null: tuple[str, ...] = cli.option((), "cells with this text are empty", metavar="TEXT", group=TABLE, advanced=True)
    bad_rows: Literal["refuse", "drop"] = cli.option(
        "refuse", "rows that do not decode, are no JSON, or have too few or too many cells", group=TABLE, advanced=True
    )


def check(options: Options) -> dict[str, float]:
    """The splits asked for; Usage where options contradict each other."""
    mode, texts = options.mode, options.mode == "texts"
    if not (options.pos or options.template) and mode != "group":
        what = "has nothing to write" if texts else "has no positives"
        raise Usage(f"--mode {mode} {what}", "name columns, --pos COL[,COL], or give a --template '{col} {col}'")
    if not texts and not options.query:
        raise Usage("--query is missing", "name the column that holds the query: --query COL")
    if mode == "group" and not options.category:
        raise Usage("--mode group needs --category", "name the column whose equal values make rows each other's positives")
    if options.category_positive and (not options.category or mode in ("group", "texts")):
        raise Usage(
            "--category-positive needs --category, and a mode that has positives of its own",
            "name the column, or choose --mode each, list or fused",
        )
    if options.texts_template and not options.texts_out:
        raise Usage("--texts-template stands without --texts-out", "name the file: --texts-out FILE")
    unused = [name for name in ("negatives", "split", "texts_out", "partition_by", "query") if getattr(options, name)] if texts else []
    if unused:
        raise Usage(f"--mode texts has no use for --{unused[0].replace('_', '-')}", "leave it out, or choose another mode")
    _check_kept(options)
    _check_partition(options)
    return _splits(options)


def _check_kept(options: Options) -> None:
    written = ("id", "text", "domain") if options.mode == "texts" else ("id", "query", "pos", "neg", "domain")
    typed = ("pos_ids", "neg_ids", "pos_scores", "neg_scores", "pos_score_kind", "neg_score_kind")
    clash = next((name for name in options.keep if name in (*written, *typed)), None)
    if clash and not (clash == "domain" == options.domain):
        raise Usage(f"--keep {clash}: the output has a column of that name already", "rename the column of the table, or leave it out")
    if len(set(options.keep)) < len(options.keep):
        raise Usage("--keep names a column twice", "name it once")


def _check_partition(options: Options) -> None:
    role, places = options.partition_by, [name for name in ("domain", "category") if f"{{{name}}}" in (options.output or "")]
    if role and not getattr(options, role):
        raise Usage(f"--partition-by {role} needs --{role}", f"name the column: --{role} COL")
    if places != ([role] if role else []):
        raise Usage(
            "--partition-by and a -o with {domain} or {category} belong together",
            "write e.g. --partition-by domain -o 'pairs.{domain}.parquet'",
        )


def _splits(options: Options) -> dict[str, float]:
    shares: dict[str, float] = {}
    for item in options.split:
        name, _, share = item.partition("=")
        try:
            valid = name not in ("", *shares) and "/" not in name and float(share) >= 0
        except ValueError:
            valid = False
        if not valid:
            raise Usage(f"--split {item!r} is no NAME=SHARE with a name of its own", "write e.g. --split train=0.8,test=0.2")
        shares[name] = float(share)
    if shares and abs(sum(shares.values()) - 1) > 1e-6:
        raise Usage(f"the shares of --split add up to {sum(shares.values()):g}", "let them add up to 1")
    for option, path in (("-o", options.output), ("--texts-out", options.texts_out)):
        if bool(shares) != ("{split}" in (path or "")) and (option == "-o" or path):
            raise Usage(
                f"--split and {option} with {{split}} belong together",
                f"write e.g. --split train=0.8,test=0.2 {option} 'pairs.{{split}}.parquet'",
            )
    if options.split_by and not shares:
        raise Usage("--split-by stands without --split", "say how to split: --split train=0.8,test=0.2")
    return shares


def run(options: Options, report: Report) -> None:
    shares = check(options)

    from csv2pairs.pipeline import Outputs
    from csv2pairs.readers.table import Table

    lineage = dict(version=TOOL.version, options=cli.row_options(options))
    Outputs(Table(options, report), options, shares, report, lineage).write()


TOOL = cli.Tool(
    "csv2pairs", Options, run, __doc__, "csv2pairs FILE... --query COL --pos COL[,COL] [--category COL] [--negatives K] [-o OUT]"
)


def main(argv: list[str] | None = None) -> int:
    code = cli.main(TOOL, argv)
    if argv is None:
        # pyarrow's CSV reader ends on a thread of its own. Where that thread wants Python while Python is being
        # taken down, it aborts the whole process (seen once in some thousand runs): all is written, so leave now.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code
