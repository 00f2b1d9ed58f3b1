"""docs2texts: documents in, texts to search out.

Reads    folders of Markdown, HTML, reStructuredText, text, Python and other source; PDF, DOCX
Writes   texts: a section or function each, under its headings as `title`, with source and lines
Holds    the largest document; 2.5 KB a text to know near duplicates; blocks wait on disk

  docs2texts docs/ -o texts.parquet
  docs2texts src/ --include '*.py' --model M --rejects dropped.jsonl -o code.parquet
"""

from __future__ import annotations

from docs2texts.options import Options
from fletching import cli
from fletching.early_checks import check_models
from fletching.errors import UsageError
from fletching.report import Report


def check(options: Options) -> None:
    """Raise UsageError for options that cannot work."""
    if not options.inputs:
        raise UsageError("there is no folder", "docs2texts docs/ -o texts.parquet")
    if options.overlap * 2 > options.max_tokens:
        raise UsageError(
            f"--overlap {options.overlap} is more than half of --max-tokens {options.max_tokens}",
            "pass a smaller one",
        )
    if options.encoding is not None:
        from fletching.io.tables.encoding import codec_named

        codec_named(options.encoding)


def _open_inputs(options: Options, report: Report) -> None:
    """List the documents, and say how many there are."""
    from docs2texts.files import list_files

    files = list_files(options)
    readable = sum(not file.reason for file in files)
    report.note(f"{len(files):,} files, {readable:,} of them to read")


def run(options: Options, report: Report) -> None:
    """Write the texts of all documents."""
    check(options)

    from fletching.io import check_output

    check_models(options)
    check_output(options.output, report.tool)

    from docs2texts.files import list_files
    from docs2texts.pipeline import DocumentPipeline

    files = list_files(options)
    provenance = {"version": TOOL.version, "options": cli.row_options(options)}
    DocumentPipeline(options, report, provenance=provenance).write(files)


TOOL = cli.Tool(
    name="docs2texts",
    options=Options,
    run=run,
    doc=__doc__,
    usage="docs2texts FOLDER... [--max-tokens N] [--model M] [-o OUT]",
    check=check,
    open_inputs=_open_inputs,
)


def main(argv: list[str] | None = None) -> int:
    """Run docs2texts as a program: the exit code."""
    return cli.main(TOOL, argv)
