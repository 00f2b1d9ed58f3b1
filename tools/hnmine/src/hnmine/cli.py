"""hnmine: hard negatives that are negative.

Reads    examples, and with --corpus texts
Writes   examples with `neg`, `neg_scores`, `pos_scores`: near misses of a query, no known positive
Holds    the texts of the pool, 64 bytes for each, 300 for each row; rows and vectors wait on disk

  hnmine pairs.parquet --model M --negatives 5 -o train.parquet
  hnmine pairs.parquet --model M --corpus corpus.parquet --range 10-210 -o train.parquet
"""

from __future__ import annotations

import contextlib

from fletching import cli
from fletching.early_checks import check_models
from fletching.errors import UsageError
from fletching.options import Shard
from fletching.report import Report
from hnmine.options import Options
from hnmine.rank_range import RankRange


def check(options: Options) -> RankRange:
    """The range of ranks. Raises UsageError for options that contradict each other."""
    ranks = RankRange.parse(options.range)
    width = ranks.high - ranks.low + (not options.raw_range)
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
    if options.model and options.vectors:
        raise UsageError("--model and --vectors exclude each other", "leave one of them out")
    if options.vectors and (options.query_echo, options.doc_echo) != (None, None):
        raise UsageError(
            "--vectors are used as they are; an echo needs a model",
            "leave --query-echo and --doc-echo out, or pass --model",
        )
    return ranks


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

    from hnmine import models, output_rows
    from hnmine.mine import mine_negatives
    from hnmine.mining_rows import MiningRows, warn_of_old_negatives
    from hnmine.pool import DocumentPool

    columns = output_rows.columns_of(options, reader.columns)
    with contextlib.ExitStack() as stack:
        loaded = stack.enter_context(models.load(options, report))
        out = stack.enter_context(
            Writer(
                report,
                options.output,
                "examples",
                columns=columns,
                version=TOOL.version,
                options=cli.row_options(options) | loaded.settings,
                sources=[reader] if corpus is None else [reader, corpus],
            )
        )
        rows = stack.enter_context(MiningRows(reader, report, shard))
        if loaded.encoder is None:
            assert loaded.reranker is not None  # checked above
            scored = output_rows.scored_units(
                rows, columns, reranker=loaded.reranker, options=options, report=report
            )
            for unit in scored:
                out.write(unit)
            return
        if not options.keep_neg:
            warn_of_old_negatives(rows, report)
        output_rows.check_kept_negatives(rows, options)
        pool = DocumentPool(rows, corpus, keep_neg=options.keep_neg, pool_only=options.pool_only)
        mined = mine_negatives(
            rows,
            pool,
            encoder=loaded.encoder,
            reranker=loaded.reranker,
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
