"""mteb-eval: MTEB and your own data, honestly compared.

Reads    models (sentence-transformers folders or hub names) and test data
Writes   a table of all models with 95 % intervals on stdout; `measures` to -o; results to --results
Holds    the texts of one task and, by path to the vectors on disk, about 120 bytes a text

  mteb-eval base/ tuned/ --examples test.parquet
  mteb-eval base/ tuned/ --examples faq=test.parquet --require-gain ndcg_at_10=0.02 -o m.parquet
"""

from __future__ import annotations

import os
import sys

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from mteb_eval.options import Options


def check(options: Options) -> None:
    from fletching.io.writer import check_output

    named = options.tasks or options.benchmark
    if options.fetch and not named:
        raise UsageError("--fetch has nothing to fetch", "pass --tasks or --benchmark")
    if not options.model and not options.fetch:
        raise UsageError("no model is named", "mteb-eval MODEL... --examples FILE")
    if not (options.examples or options.beir or options.sts or options.pairs or named):
        raise UsageError(
            "no test data is named",
            "pass --examples FILE, --beir DIR, --sts FILE, --pairs FILE or --tasks T",
        )
    if options.output is not None:
        check_output(options.output, "mteb-eval")
    for name in options.metrics:
        check_metric(name)
    if options.candidates and (options.corpus or options.corpus_negatives):
        raise UsageError(
            "--candidates ranks the rows of --examples alone",
            "leave --corpus and --corpus-negatives out",
        )
    if options.html and not os.path.isdir(os.path.dirname(options.html) or "."):
        raise UsageError(
            f"the folder of --html {options.html} does not exist",
            f"mkdir -p {os.path.dirname(options.html)}",
        )
    if options.html and os.path.isdir(options.html):
        raise UsageError(f"--html {options.html} is a folder", "name a file, e.g. page.html")


def check_metric(name: str) -> None:
    """Refuse `ndcg@7` before the work: mteb computes 1, 3, 5, 10, 20, 100 and 1000."""
    from mteb_eval.scoring.metrics import CUTS, SHOWN, metric_key

    family, _, cut = metric_key(name).partition("_at_")
    if cut and (family not in SHOWN or cut not in map(str, CUTS)):
        depths = ", ".join(map(str, CUTS))
        raise UsageError(
            f"--metrics {name} is no metric that mteb computes",
            f"pass {', '.join(SHOWN)} at {depths}, e.g. ndcg_at_10",
        )


def run(options: Options, report: Report) -> int:
    check(options)

    from mteb_eval import run as work

    return work.compare(
        options, report, TOOL.version, sys.stderr if options.output == "-" else sys.stdout
    )


TOOL = cli.Tool(
    "mteb-eval",
    Options,
    run,
    __doc__,
    "mteb-eval MODEL... --examples FILE [--baseline MODEL] [-o OUT]",
)


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
