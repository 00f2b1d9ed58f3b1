"""texts2vectors: texts to vectors, once, for every tool that encodes.

Reads    texts or examples (queries, positives and negatives); with --vectors, vectors too
Writes   vectors: one row for each distinct text, with the hash by which --vectors finds it
Holds    10 bytes a text, with a cache 130; with --shard the rows wait in a temporary file

  texts2vectors corpus.parquet --model M --vector-type float16 -o vectors.parquet
  texts2vectors corpus.parquet --model M --base-url http://localhost:8000/v1 -o vectors.parquet
  texts2vectors corpus.parquet --model M --shard 3/16 -o vectors.03.parquet

The same command resumes a killed run: vectors wait beside OUT until it succeeds.
"""

from __future__ import annotations

import contextlib

from fletching import cli
from fletching.early_checks import check_models
from fletching.encode.opening import check_vectors, open_encoder
from fletching.errors import UsageError
from fletching.options import Shard
from fletching.protocols import TextEncoder
from fletching.report import Report
from fletching.shards.engine_checks import check_engine
from texts2vectors.options import Options

BOTH = "encode them apart: --role query, then --role document"


def check(options: Options) -> None:
    """Raise UsageError for options that contradict each other."""
    Shard.parse(options.shard)
    check_engine(options)
    check_vectors(options, options.vectors)
    if not (options.model or options.vectors):
        raise UsageError(
            "--model is missing", "pass --model M: a sentence-transformers folder or hub name"
        )


def _check_roles(options: Options, encoder: TextEncoder) -> None:
    """A text that is a query and a document would have two vectors under one hash."""
    as_query = (options.query_length, options.query_echo)
    as_document = (options.doc_length, options.doc_echo)
    has_one_prompt = encoder.prompts["query"] == encoder.prompts["document"]
    if has_one_prompt and as_query != as_document:
        raise UsageError(
            "queries and documents have the same prompt, but are cut or repeated differently", BOTH
        )


def run(options: Options, report: Report) -> None:
    """Write the vector of each distinct text."""
    check(options)

    from fletching.io import Reader, Writer, check_output

    # Before torch is imported, which takes seconds.
    check_models(options)
    check_output(options.output, report.tool)
    if options.engine:
        from fletching.shards.engine_run import run_and_join

        run_and_join(TOOL, options, report)
        return
    reader = Reader(report, options.inputs, ["texts", "examples"], limit=options.limit)

    from texts2vectors.vector_rows import VectorRows

    half = options.vector_type == "float16"
    with contextlib.ExitStack() as stack:
        encoder = stack.enter_context(
            open_encoder(options, options.vectors, report, half_cache=half)
        )
        if reader.schema.name == "examples" and options.role is None:
            _check_roles(options, encoder)
        rows = VectorRows(options, encoder, report)
        out = stack.enter_context(
            Writer(
                report,
                options.output,
                "vectors",
                columns=rows.columns,
                version=TOOL.version,
                options=cli.row_options(options) | {"model": encoder.settings},
                sources=[reader],
            )
        )
        for batch in rows.batches(reader):
            out.write(batch)


TOOL = cli.Tool(
    name="texts2vectors",
    options=Options,
    run=run,
    doc=__doc__,
    usage="texts2vectors [TEXTS...] --model M [--base-url URL] [--shard I/N] [-o OUT]",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """Run texts2vectors as a program: the exit code."""
    return cli.main(TOOL, argv)
