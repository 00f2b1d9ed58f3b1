"""texts2pairs: training pairs from texts alone.

Reads    texts: of docs2texts, or any corpus with titles
Writes   examples: a title, heading, sentence, docstring …, and the text without it; `kind`
Holds    16 bytes a query, and those of --queries; the texts wait on disk

  docs2texts docs/ | texts2pairs -o pairs.parquet
  texts2pairs corpus.jsonl --kinds title,cloze --corpus-out searched.parquet -o pairs.parquet
  texts2pairs texts.parquet --queries written-by-llm.parquet -o pairs.parquet
"""

from __future__ import annotations

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from texts2pairs.options import Options


def check(options: Options) -> None:
    """Raise UsageError where nothing would become a query."""
    if not options.kinds:
        raise UsageError("--kinds names no kind", "leave it out for all")


def run(options: Options, report: Report) -> None:
    """Write the pairs of all texts."""
    check(options)

    from fletching.io import Reader, check_output

    check_output(options.output, report.tool)
    reader = Reader(report, options.inputs, "texts", limit=options.limit)

    from texts2pairs.pipeline import PairRows
    from texts2pairs.written_queries import WrittenQueries

    written = WrittenQueries(report, options.queries)
    provenance = {
        "version": TOOL.version,
        "options": cli.row_options(options),
        "sources": [reader, *filter(None, [written.reader])],
    }
    PairRows(options, report, written=written, provenance=provenance).write(reader)


TOOL = cli.Tool(
    name="texts2pairs",
    options=Options,
    run=run,
    doc=__doc__,
    usage="texts2pairs [TEXTS...] [--kinds KIND,KIND] [--corpus-out FILE] [-o OUT]",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """Run texts2pairs as a program: the exit code."""
    return cli.main(TOOL, argv)
