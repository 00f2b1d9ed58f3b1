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

from csv2pairs.options import Options
from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report


def check(options: Options) -> dict[str, float]:
    """The splits asked for; Usage where options contradict each other."""
    mode, texts = options.mode, options.mode == "texts"
    if not (options.pos or options.template) and mode != "group":
        what = "has nothing to write" if texts else "has no positives"
        raise UsageError(
            f"--mode {mode} {what}",
            "name columns, --pos COL[,COL], or give a --template '{col} {col}'",
        )
    if not texts and not options.query:
        raise UsageError("--query is missing", "name the column that holds the query: --query COL")
    if mode == "group" and not options.category:
        raise UsageError(
            "--mode group needs --category",
            "name the column whose equal values make rows each other's positives",
        )
    if options.category_positive and (not options.category or mode in ("group", "texts")):
        raise UsageError(
            "--category-positive needs --category, and a mode that has positives of its own",
            "name the column, or choose --mode each, list or fused",
        )
    if options.texts_template and not options.texts_out:
        raise UsageError(
            "--texts-template stands without --texts-out", "name the file: --texts-out FILE"
        )
    unused = (
        [
            name
            for name in ("negatives", "split", "texts_out", "partition_by", "query")
            if getattr(options, name)
        ]
        if texts
        else []
    )
    if unused:
        raise UsageError(
            f"--mode texts has no use for --{unused[0].replace('_', '-')}",
            "leave it out, or choose another mode",
        )
    _check_kept(options)
    _check_partition(options)
    return _splits(options)


def _check_kept(options: Options) -> None:
    written = (
        ("id", "text", "domain")
        if options.mode == "texts"
        else ("id", "query", "pos", "neg", "domain")
    )
    typed = ("pos_ids", "neg_ids", "pos_scores", "neg_scores", "pos_score_kind", "neg_score_kind")
    clash = next((name for name in options.keep if name in (*written, *typed)), None)
    if clash and not (clash == "domain" == options.domain):
        raise UsageError(
            f"--keep {clash}: the output has a column of that name already",
            "rename the column of the table, or leave it out",
        )
    if len(set(options.keep)) < len(options.keep):
        raise UsageError("--keep names a column twice", "name it once")


def _check_partition(options: Options) -> None:
    role, places = (
        options.partition_by,
        [name for name in ("domain", "category") if f"{{{name}}}" in (options.output or "")],
    )
    if role and not getattr(options, role):
        raise UsageError(f"--partition-by {role} needs --{role}", f"name the column: --{role} COL")
    if places != ([role] if role else []):
        raise UsageError(
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
            raise UsageError(
                f"--split {item!r} is no NAME=SHARE with a name of its own",
                "write e.g. --split train=0.8,test=0.2",
            )
        shares[name] = float(share)
    if shares and abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(
            f"the shares of --split add up to {sum(shares.values()):g}", "let them add up to 1"
        )
    for option, path in (("-o", options.output), ("--texts-out", options.texts_out)):
        if bool(shares) != ("{split}" in (path or "")) and (option == "-o" or path):
            raise UsageError(
                f"--split and {option} with {{split}} belong together",
                f"write e.g. --split train=0.8,test=0.2 {option} 'pairs.{{split}}.parquet'",
            )
    if options.split_by and not shares:
        raise UsageError(
            "--split-by stands without --split", "say how to split: --split train=0.8,test=0.2"
        )
    return shares


def run(options: Options, report: Report) -> None:
    shares = check(options)

    from csv2pairs.pipeline import Outputs
    from csv2pairs.readers.table import Table

    lineage = dict(version=TOOL.version, options=cli.row_options(options))
    Outputs(Table(options, report), options, shares, report, lineage).write()


TOOL = cli.Tool(
    "csv2pairs",
    Options,
    run,
    __doc__,
    "csv2pairs FILE... --query COL --pos COL[,COL] [--category COL] [--negatives K] [-o OUT]",
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
