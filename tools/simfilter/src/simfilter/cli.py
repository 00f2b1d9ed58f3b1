"""simfilter: drop pairs whose query and positive do not fit together.

Reads    examples
Writes   examples with `pos_scores`; each positive is judged on its own, and a row goes when none is left
Holds    8,192 rows; with --keep-top the scores (4 bytes a positive), the rows wait in a temporary file

  simfilter pairs.parquet --model M --min-sim 0.5 -o kept.parquet
  csv2pairs faq.csv --query q --pos a | simfilter --model M --keep-top 0.9 | hnmine --model M -o train.parquet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, Encoding, Examples, Output, Standard
from fletching.report import Report

if TYPE_CHECKING:
    from simfilter.judge import Criteria

CRITERIA = "criteria (they combine)"


@dataclass(frozen=True, kw_only=True)
class Options(Output, Examples, Encoding, Standard):
    min_sim: float | None = cli.option(None, "drop a positive whose cosine to its query is below X", metavar="X", low=-1, high=1, group=CRITERIA)
    max_sim: float | None = cli.option(None, "drop a positive whose cosine is above X: a near copy of the query", metavar="X", low=-1, high=1, group=CRITERIA)
    keep_top: float | None = cli.option(None, "keep this share of the positives, the best ones", metavar="Q", low=0, high=1, group=CRITERIA)
    score_only: bool = cli.option(False, "drop nothing, only write the scores", group=CRITERIA)
    rejects: str | None = cli.option(None, "write the dropped rows here, with reason and scores", metavar="FILE", group=IO, rows=False)
    replace_scores: bool = cli.option(False, "overwrite scores of a reranker, label or judge", group=IO, advanced=True)


def check(options: Options) -> Criteria:
    from simfilter.judge import Criteria

    low, high = options.min_sim, options.max_sim
    if options.score_only and not (low is high is options.keep_top is None):
        raise Usage("--score-only drops nothing, but a criterion stands beside it", "leave one of them out")
    if low is high is options.keep_top is None and not options.score_only:
        raise Usage("no criterion is given", "pass --min-sim X or --keep-top Q, or --score-only to look at the scores first")
    if low is not None and high is not None and low > high:
        raise Usage(f"--min-sim {low} is above --max-sim {high}: nothing can pass", "swap them")
    return Criteria(low, high, options.keep_top)


def run(options: Options, report: Report) -> None:
    criteria = check(options)

    from fletching.encode import Encoder
    from fletching.stream import Reader, Writer
    from simfilter import judge

    rows = Reader(report, options.inputs, "examples", limit=options.limit)
    columns = judge.scored_columns(rows.columns)
    with Encoder(options, report) as encoder:
        lineage = dict(version=TOOL.version, options=cli.row_options(options) | {"model": encoder.settings}, sources=[rows])
        out = Writer(report, options.output, "examples", columns, **lineage)
        rejects = Writer(report, options.rejects, "examples", judge.reject_columns(columns), count=False, **lineage) if options.rejects else None
        with out, rejects or judge.nothing():
            scored = judge.score(rows, columns, encoder, report, options.replace_scores)
            for kept, dropped in judge.decide(scored, criteria, report):
                out.write(kept)
                if rejects:
                    rejects.write(dropped)


TOOL = cli.Tool("simfilter", Options, run, __doc__, "simfilter [EXAMPLES...] --model M (--min-sim X | --keep-top Q | --score-only) [-o OUT]")


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
