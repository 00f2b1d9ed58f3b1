"""arrowcat: look at rows, check them and convert them.

Reads    examples, texts, vectors, tasks, measures, and any other table
Writes   what people read on stdout; the rows to -o, by --to in the format of another program
Holds    8,192 rows, and a --sample; --stats: 16 bytes a row for duplicates and 4 a score; --html:
         20,000 texts more; --to: nothing more, the rows wait in a temporary file

  csv2pairs faq.csv --query question --pos answer | arrowcat
  arrowcat train.parquet --where "len(query) > 20" --sample 5
  arrowcat train.parquet --to n-tuple -o train.jsonl
"""

from __future__ import annotations

import dataclasses

from arrowcat.options import Options
from fletching import cli
from fletching.early_checks import check_page
from fletching.errors import UsageError
from fletching.report import Report

ROWS_TO_LOOK_AT = 10


def check(options: Options) -> None:
    """Raises UsageError for options that contradict each other or cannot work."""
    views = {
        "--stats": options.stats,
        "--check": options.check,
        "--lineage": options.lineage,
        "--html": options.html is not None,
        "-o": options.output is not None,
    }
    chosen = [flag for flag, is_chosen in views.items() if is_chosen]
    if len(chosen) > 1:
        what = f"{' and '.join(chosen)} are two things to do"
        raise UsageError(what, "leave all but one of them out")
    if options.tokenizer and not (options.stats or options.html):
        raise UsageError("--tokenizer measures lengths, of which none are shown", "add --stats")
    if options.to is not None and options.output is None:
        raise UsageError("--to writes rows, but there is no -o", "add -o OUT")
    selects = options.where is not None or options.sample is not None or options.head is not None
    if (options.check or options.lineage) and selects:
        flag = "--check" if options.check else "--lineage"
        what = f"{flag} is about whole inputs"
        raise UsageError(what, "leave --head, --sample and --where out; --limit N reads less")
    if options.html is not None:
        check_page(options.html)


def run(options: Options, report: Report) -> int | None:
    """Do the one thing that the options choose."""
    check(options)
    if options.output is not None:
        from arrowcat.rows.conversion import write_rows

        settings = cli.row_options(options)
        write_rows(options, report, version=TOOL.version, lineage_options=settings)
        return 0

    from arrowcat import views

    if options.check:
        return views.show_check(options, report)
    if options.lineage:
        views.show_lineage(options, report)
    elif options.stats:
        views.show_statistics(options, report)
    elif options.html is not None:
        views.write_html(options, report, version=TOOL.version)
    else:
        if options.head is None and options.sample is None:
            options = dataclasses.replace(options, head=ROWS_TO_LOOK_AT)
        views.show_rows(options, report)
    return 0


TOOL = cli.Tool(
    name="arrowcat",
    options=Options,
    run=run,
    doc=__doc__,
    usage="arrowcat [FILE...] [--stats | --check | --lineage | --html PAGE | -o OUT]",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """The program: its exit code."""
    return cli.main(TOOL, argv)
