"""hnmine: hard negatives that are negative.

Reads    examples, and with --corpus texts
Writes   examples with `neg`, `neg_scores`, `pos_scores`: near misses of a query, no known positive
Holds    the texts of the pool, 64 bytes for each, 300 for each row; rows and vectors wait on disk

  hnmine pairs.parquet --model M --negatives 5 -o train.parquet
  hnmine pairs.parquet --model M --corpus corpus.parquet --range 10-210 -o train.parquet
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fletching import cli
from fletching.early_checks import check_models
from fletching.encode.opening import check_vectors, open_encoder
from fletching.errors import UsageError
from fletching.options import Shard
from fletching.report import Report
from hnmine.options import Options

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker
    from fletching.protocols import TextEncoder


def check(options: Options) -> range:
    """The ranks of --range. Raises UsageError for options that contradict each other."""
    ranks = _parse_range(options.range)
    width = len(ranks) - options.raw_range
    if width < options.negative_count:
        raise UsageError(
            f"--range {options.range} has fewer ranks than --negatives {options.negative_count}",
            "widen the range",
        )
    low = options.min_score
    high = options.max_score
    if low is not None and high is not None and low > high:
        raise UsageError(
            f"--min-score {low} is above --max-score {high}: nothing can pass", "swap them"
        )
    if options.score_all and not options.reranker:
        raise UsageError(
            "--score-all has no --reranker to score with", "name a cross-encoder: --reranker CE"
        )
    if options.pool_only and not options.corpus:
        raise UsageError(
            "--pool-only leaves nothing to mine from: there is no --corpus", "add --corpus TEXTS"
        )
    if not (options.model or options.vectors or options.score_all):
        raise UsageError(
            "--model is missing", "pass --model M: a sentence-transformers folder or hub name"
        )
    check_vectors(options, options.vectors)
    return ranks


def _parse_range(text: str) -> range:
    """The ranks of `LO-HI`, 1 the nearest, both included. Raises UsageError."""
    low, dash, high = text.partition("-")
    if not (dash and low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
        raise UsageError(
            f"--range {text} is not LO-HI",
            "pass e.g. --range 2-200; both ends count, 1 is the nearest text",
        )
    return range(int(low), int(high) + 1)


def _open_models(
    options: Options, report: Report, stack: contextlib.ExitStack
) -> tuple[TextEncoder | None, Reranker | None]:
    """What encodes, unless nothing is mined, and what reranks, if anything does."""
    encoder = reranker = None
    if options.reranker:
        from fletching.encode.reranker import Reranker

        reranker = stack.enter_context(Reranker(options.reranker, options))
    if not options.score_all:
        encoder = stack.enter_context(open_encoder(options, options.vectors, report))
    return encoder, reranker


def run(options: Options, report: Report) -> None:
    """Mine negatives, or with --score-all score those of the input."""
    ranks = check(options)
    shard = Shard.parse(options.shard)

    from fletching.io import Reader, Writer, check_output

    # Before torch is imported, which takes seconds.
    check_models(options)
    check_output(options.output, report.tool)
    reader = Reader(report, options.inputs, "examples", limit=options.limit)
    corpus = Reader(report, options.corpus, "texts", count=False) if options.corpus else None

    from hnmine import output_rows
    from hnmine.mine import mine_negatives
    from hnmine.pool import DocumentPool
    from hnmine.queries import MiningRows

    columns = output_rows.columns_of(options, reader.columns)
    with contextlib.ExitStack() as stack:
        encoder, reranker = _open_models(options, report, stack)
        models = {"model": encoder, "reranker": reranker}
        settings = {name: model.settings for name, model in models.items() if model is not None}
        out = stack.enter_context(
            Writer(
                report,
                options.output,
                "examples",
                columns=columns,
                version=TOOL.version,
                options=cli.row_options(options) | settings,
                sources=[reader] if corpus is None else [reader, corpus],
            )
        )
        rows = stack.enter_context(MiningRows(reader, report, shard))
        if reranker is not None and encoder is None:
            units = output_rows.scored_units(
                rows, columns, reranker=reranker, options=options, report=report
            )
        elif encoder is not None:
            output_rows.check_old_negatives(rows, options, report)
            pool = DocumentPool(
                rows.table, corpus, keep_neg=options.keep_neg, pool_only=options.pool_only
            )
            mined = mine_negatives(
                rows,
                pool,
                encoder=encoder,
                reranker=reranker,
                ranks=ranks,
                options=options,
                report=report,
            )
            units = output_rows.mined_units(
                rows, columns, pool=pool, mined=mined, options=options, report=report
            )
        for unit in units:
            out.write(unit)


TOOL = cli.Tool(
    name="hnmine",
    options=Options,
    run=run,
    doc=__doc__,
    usage="hnmine [EXAMPLES...] --model M [--corpus TEXTS] [--negatives K] [--range LO-HI]"
    " [-o OUT]",
)


def main(argv: list[str] | None = None) -> int:
    """Run hnmine as a program: the exit code."""
    return cli.main(TOOL, argv)
