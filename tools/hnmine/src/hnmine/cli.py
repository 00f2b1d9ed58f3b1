"""hnmine: hard negatives that are negative.

Reads    examples, and with --corpus texts
Writes   examples with `neg`, `neg_scores`, `pos_scores`: near misses of each query, no known positive
Holds    a vector for every distinct query and pool text (4 bytes x dimension each); rows wait on disk

  hnmine pairs.parquet --model M --negatives 5 -o train.parquet
  hnmine pairs.parquet --model M --corpus corpus.parquet --range 10-210 --max-ratio 0.95 -o train.parquet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import Encoding, Examples, Output, Seed, Standard
from fletching.report import Report

CHOICE = "which negatives"
GUARDS = "guards against false negatives (they combine)"


@dataclass(frozen=True, kw_only=True)
class Options(Output, Examples, Encoding, Seed, Standard):
    negatives: int = cli.option(5, "hard negatives of a row", metavar="K", low=1, group=CHOICE)
    range: str = cli.option("1-100", "ranks to choose from, 1 the nearest, after the query's own positives and their copies are taken out", metavar="LO-HI", group=CHOICE)
    sample: Literal["random", "top"] = cli.option("random", "choose in the range at random (seeded by row) or the nearest first", group=CHOICE)
    corpus: tuple[str, ...] = cli.option((), "`texts` that join the pool of the input's positives", metavar="TEXTS", group=CHOICE, rows=False)
    keep_neg: bool = cli.option(False, "old negatives stay, in front, and join the pool", group=CHOICE, advanced=True)
    max_ratio: float | None = cli.option(0.95, "score at most p - (1-R)|p|, p the lowest score of a positive; 0 turns it off", metavar="R", low=0, high=1, group=GUARDS)
    margin: float | None = cli.option(None, "score at most p - X", metavar="X", low=0, high=2, group=GUARDS, advanced=True)
    max_sim: float | None = cli.option(None, "score at most X", metavar="X", low=-1, high=1, group=GUARDS, advanced=True)
    min_sim: float | None = cli.option(None, "score at least X: nearer than random", metavar="X", low=-1, high=1, group=GUARDS, advanced=True)
    near_copy: float = cli.option(0.98, "cosine to a positive from which a text counts as its copy", metavar="X", low=0, high=1, group=GUARDS, advanced=True)
    replace_scores: bool = cli.option(False, "overwrite positive scores of a reranker, label or judge", group=GUARDS, advanced=True)


def check(options: Options) -> tuple[int, int]:
    """The range as two numbers."""
    low, dash, high = options.range.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise Usage(f"--range {options.range} is no LO-HI", "write e.g. --range 2-200; both count, 1 is the nearest")
    if int(high) - int(low) + 1 < options.negatives:
        raise Usage(f"--range {options.range} has room for fewer than --negatives {options.negatives}", "widen the range")
    if options.min_sim is not None and options.max_sim is not None and options.min_sim > options.max_sim:
        raise Usage(f"--min-sim {options.min_sim} is above --max-sim {options.max_sim}: nothing can pass", "swap them")
    return int(low), int(high)


def run(options: Options, report: Report) -> None:
    window = check(options)

    import contextlib

    from fletching.encode import Encoder
    from fletching.stream import Reader, Writer
    from hnmine import mine
    from hnmine.pool import Pool, Spool

    rows = Reader(report, options.inputs, "examples", limit=options.limit)
    corpus = Reader(report, options.corpus, "texts", count=False) if options.corpus else None
    columns = mine.mined_columns(rows.columns)
    with contextlib.ExitStack() as stack:
        encoder = stack.enter_context(Encoder(options, report))
        lineage = dict(version=TOOL.version, options=cli.row_options(options) | {"model": encoder.settings}, sources=[rows, *([corpus] if corpus else [])])
        out = stack.enter_context(Writer(report, options.output, "examples", columns, **lineage))
        spool = Spool(rows, report, stack)
        pool = Pool(spool, corpus, options.keep_neg)
        if not options.keep_neg:
            spool.warn_of_old_negatives(report)
        mined = mine.mine(spool, pool, encoder, window, options, report)
        for batch, negatives in zip(spool.batches, mined):
            out.write(mine.with_negatives(batch, columns, pool, negatives, options))


TOOL = cli.Tool("hnmine", Options, run, __doc__, "hnmine [EXAMPLES...] --model M [--corpus TEXTS] [--negatives K] [--range LO-HI] [-o OUT]")


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
