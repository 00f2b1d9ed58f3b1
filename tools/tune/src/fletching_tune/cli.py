"""fletching-tune: from a table to a better embedding model.

Reads    tables of any kind, as csv2pairs does; a base model
Writes   DIR: the model, report.html, verdict.json, commands.sh. What it works with is in DIR.tune
Holds    per-query figures of the candidates; the programs that it runs hold what they hold

  fletching-tune faq.csv --query question --pos answer -o tuned/
  fletching-tune faq.csv --query question --pos answer --budget 1h --print-commands -o tuned/
  fletching-tune docs/ --documents -o tuned/

It runs the other tools. The same command again redoes nothing, one with other arguments what they
change, a killed one goes on. The last line is the verdict: WIN, MARGINAL, or NO GAIN.
"""

from __future__ import annotations

from fletching import cli
from fletching.early_checks import check_models
from fletching.errors import UsageError
from fletching.report import Report
from fletching_tune.budget import parse_budget
from fletching_tune.documents import check_documents
from fletching_tune.options import Options
from fletching_tune.steps.runner import STAGES
from fletching_tune.table import check_table
from fletching_tune.work_folder import check_output


def check(options: Options) -> None:
    """Raise UsageError or InputError for what cannot work, before anything is run."""
    check_table(options)
    check_documents(options)
    parse_budget(options.budget)
    if not options.output:
        raise UsageError("-o is missing", "name the folder of the tuned model: -o tuned/")
    if options.to and options.from_ and STAGES.index(options.to) < STAGES.index(options.from_):
        raise UsageError(f"--to {options.to} is before --from {options.from_}", "swap them")
    check_models(options)
    check_output(options.output)


def run(options: Options, report: Report) -> int:
    """Tune, and print the verdict; 1 where --require-gain is not met."""
    check(options)

    import sys

    from fletching_tune.run import TuningRun

    return TuningRun(options, report, out=sys.stdout).run()


TOOL = cli.Tool(
    name="fletching-tune",
    options=Options,
    run=run,
    doc=__doc__,
    usage="fletching-tune TABLE... --query COL --pos COL[,COL] [--model M] [--budget T] -o DIR",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """Run fletching-tune as a program: the exit code."""
    return cli.main(TOOL, argv)
