"""hnmine: hard negatives that are negative.

Reads    examples, and with --corpus texts
Writes   examples with `neg`, `neg_scores`, `pos_scores`: near misses of a query, no known positive
Holds    the texts of the pool, 60 bytes for each, 300 for each row; rows and vectors wait on disk

  hnmine pairs.parquet --model M --negatives 5 -o train.parquet
  hnmine pairs.parquet --model M --corpus corpus.parquet --range 10-210 -o train.parquet
"""

from __future__ import annotations

import contextlib
from typing import Any

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from hnmine.options import Options


def check(options: Options) -> tuple[int, int]:
    """The range as two numbers."""
    low, dash, high = options.range.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise UsageError(
            f"--range {options.range} is no LO-HI",
            "write e.g. --range 2-200; both count, 1 is the nearest",
        )
    if int(high) - int(low) + (not options.raw_range) < options.negatives:
        raise UsageError(
            f"--range {options.range} has room for fewer than --negatives {options.negatives}",
            "widen the range",
        )
    if (
        options.min_sim is not None
        and options.max_sim is not None
        and options.min_sim > options.max_sim
    ):
        raise UsageError(
            f"--min-sim {options.min_sim} is above --max-sim {options.max_sim}: nothing can pass",
            "swap them",
        )
    if options.score_all and not options.reranker:
        raise UsageError(
            "--score-all has no --reranker to score with", "name a cross-encoder: --reranker CE"
        )
    if not (options.model or options.vectors or options.score_all):
        raise UsageError(
            "--model is missing", "pass --model M: a sentence-transformers folder or hub name"
        )
    if options.model and options.vectors:
        raise UsageError("--model and --vectors are both given", "leave one of them out")
    if options.vectors and (options.query_echo, options.doc_echo) != (None, None):
        raise UsageError(
            "--vectors are taken as they are, an echo would make others",
            "leave --query-echo and --doc-echo out, or pass --model",
        )
    return int(low), int(high)


def part(shard: str | None) -> tuple[int, int]:
    """`I/N` as numbers."""
    if shard is None:
        return 0, 1
    number, slash, count = shard.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise UsageError(f"--shard {shard} is no I/N", "write 0/4, 1/4, 2/4 and 3/4 for four parts")
    return int(number), int(count)


def run(options: Options, report: Report) -> None:
    window, shard = check(options), part(options.shard)

    from fletching.io import Reader, Writer, check_output

    check_output(options.output, report.tool)  # before torch and a model are loaded

    from hnmine import rows as made
    from hnmine.pool import Pool, Spool

    rows = Reader(report, options.inputs, "examples", limit=options.limit)
    corpus = Reader(report, options.corpus, "texts", count=False) if options.corpus else None
    columns = (
        made.scored_columns(rows.columns)
        if options.score_all
        else made.mined_columns(rows.columns, options.pad)
    )
    with contextlib.ExitStack() as stack:
        encoder, reranker = _models(options, report, stack)
        settings = {"model": encoder.settings} if encoder else {}
        settings |= {"reranker": reranker.settings} if reranker else {}
        sources = [rows, *([corpus] if corpus else [])]
        out = stack.enter_context(
            Writer(
                report,
                options.output,
                "examples",
                columns,
                version=TOOL.version,
                options=cli.row_options(options) | settings,
                sources=sources,
            )
        )
        spool = Spool(rows, report, stack, shard)
        if options.score_all:
            with report.progress("scoring", int(spool.starts[-1])) as progress:
                for unit in spool.units:
                    out.write(made.scored(unit, columns, reranker, options.replace_scores, report))
                    progress.advance(len(unit))
            return
        from hnmine.mine import mine

        if not options.keep_neg:
            _warn_of_old_negatives(spool, report)
        pool = Pool(spool, corpus, options.keep_neg)
        mined = mine(spool, pool, encoder, reranker, window, options, report)
        for unit, start in zip(spool.units, spool.starts.tolist()):
            out.write(
                made.with_negatives(unit, start, columns, pool, mined, options.replace_scores)
            )


def _models(options: Options, report: Report, stack: contextlib.ExitStack) -> tuple[Any, Any]:
    """What encodes and what reranks; None for what is not needed."""
    encoder: Any = None
    reranker: Any = None
    if options.reranker:
        from fletching.encode.reranker import Reranker

        reranker = stack.enter_context(Reranker(options.reranker, options))
    if options.vectors and not options.score_all:
        from fletching.encode.precomputed import PrecomputedEmbeddings

        encoder = stack.enter_context(
            PrecomputedEmbeddings(options.vectors, report, options.query_prompt, options.doc_prompt)
        )
    elif not options.score_all:
        from fletching.encode import Encoder

        encoder = stack.enter_context(Encoder(options, report))
    return encoder, reranker


def _warn_of_old_negatives(spool: Any, report: Report) -> None:
    replaced = sum(
        len(unit) - unit["neg"].null_count for unit in spool.units if "neg" in unit.schema.names
    )
    if replaced:
        report.note(f"{replaced:,} rows had negatives, which are replaced; --keep-neg keeps them")


TOOL = cli.Tool(
    "hnmine",
    Options,
    run,
    __doc__,
    "hnmine [EXAMPLES...] --model M [--corpus TEXTS] [--negatives K] [--range LO-HI] [-o OUT]",
)


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
