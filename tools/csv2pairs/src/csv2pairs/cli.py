"""csv2pairs: tables in, training pairs out.

Reads    CSV, TSV, JSONL, Parquet or Arrow with any columns; every cell is text exactly as written
Writes   examples: a query, its positives and, with --negatives, other rows' positives as negatives
Holds    8 bytes a row; with --negatives, --split or --mode group about 100 bytes, rows wait on disk

  csv2pairs faq.csv --query question --pos answer --category topic --negatives 5 -o pairs.parquet
  csv2pairs shop.csv --query name --pos title,text --split train=0.9,test=0.1 -o '{split}.parquet'
"""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

from csv2pairs.option_checks import check_options
from csv2pairs.options import Options
from fletching import cli
from fletching.report import Report


def check(options: Options) -> dict[str, float]:
    """The share of each split, by name. Raises UsageError where options contradict each other."""
    return check_options(options)


def _open_inputs(options: Options, report: Report) -> None:
    """Raises InputError where a table cannot be read or lacks a column."""
    from csv2pairs.table import open_inputs

    first_row = dataclasses.replace(options, limit=1)
    next(iter(open_inputs(first_row, report)), None)


def run(options: Options, report: Report) -> None:
    """Read the table and write all outputs."""
    shares = check(options)

    from csv2pairs.pipeline import PairPipeline
    from csv2pairs.table import open_inputs

    # The handler that polars installs when it is imported restarts a read that Ctrl-C interrupts.
    signal.siginterrupt(signal.SIGINT, True)
    table = open_inputs(options, report)
    provenance: dict[str, Any] = {
        "version": TOOL.version,
        "options": cli.row_options(options),
        "sources": [table],
    }
    PairPipeline(
        table,
        options,
        report,
        shares=shares,
        provenance=provenance,
    ).write()


TOOL = cli.Tool(
    name="csv2pairs",
    options=Options,
    run=run,
    doc=__doc__,
    usage="csv2pairs FILE... --query COL --pos COL[,COL] [--category COL] [--negatives K] [-o OUT]",
    check=check,
    open_inputs=_open_inputs,
)


def main(argv: list[str] | None = None) -> int:
    """Run csv2pairs as a program: the exit code."""
    return cli.main(TOOL, argv)
