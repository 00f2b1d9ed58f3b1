"""hnmine: hard negatives that are negative.

Reads    examples, and with --corpus texts; with --merge also candidates
Writes   examples with `neg` and scores: near misses, no known positive; or a part's candidates
Holds    16 bytes for each text of the pool, 300 for each row; texts, rows, vectors wait on disk

  hnmine pairs.parquet --model M --negatives 5 -o train.parquet
  hnmine pairs.parquet --model M --corpus corpus.parquet --range 10-210 -o train.parquet
"""

from __future__ import annotations

import dataclasses

from fletching import cli
from fletching.early_checks import check_models
from fletching.encode.opening import check_vectors
from fletching.errors import UsageError
from fletching.options import Shard
from fletching.report import Report
from fletching.shards.engine_checks import as_shard, check_engine
from hnmine.options import Options


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
    if options.scores == "hybrid" and options.reranker:
        raise UsageError(
            "--scores hybrid and --reranker exclude each other: a row has scores of one kind",
            "leave one of them out",
        )
    _check_parts(options)
    _check_engine(options)
    if not (options.model or options.vectors or options.score_all or options.merge):
        raise UsageError(
            "--model is missing", "pass --model M: a sentence-transformers folder or hub name"
        )
    check_vectors(options, options.vectors)
    return ranks


def _check_parts(options: Options) -> None:
    """Raise UsageError for what a part of the pool, or a merge of parts, cannot do."""
    Shard.parse(options.pool_shard, "--pool-shard")
    if not (options.pool_shard or options.merge):
        return
    if options.pool_shard and options.merge:
        raise UsageError("--pool-shard and --merge exclude each other", "search all parts first")
    flag = "--merge" if options.merge else "--pool-shard"
    need_the_whole_pool = {
        "--pad": options.pad,
        "--bm25": options.bm25,
        "--scores hybrid": options.scores == "hybrid",
        "--score-all": options.score_all,
    }
    for other, value in need_the_whole_pool.items():
        if value:
            raise UsageError(
                f"{other} needs the whole pool, and {flag} has parts of it",
                f"leave {other} out, or mine in one run",
            )
    if options.pool_shard and ".jsonl" in (options.output or ""):
        raise UsageError(
            "JSON lines cannot say which part of the pool they are of",
            "name a file for --pool-shard: -o FILE.parquet",
        )


def _check_engine(options: Options) -> None:
    """Raise UsageError for what --engine, which searches parts of the pool, cannot do."""
    check_engine(options)
    if options.engine and (options.pool_shard or options.merge):
        flag = "--merge" if options.merge else "--pool-shard"
        raise UsageError(f"--engine searches all parts and merges them; {flag} is one step of it",
                         "leave one of them out")  # fmt: skip
    if options.engine:
        _check_parts(as_shard(options, "pool_shard"))


def _parse_range(text: str) -> range:
    """The ranks of `LO-HI`, 1 the nearest, both included. Raises UsageError."""
    low, dash, high = text.partition("-")
    if not (dash and low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
        raise UsageError(
            f"--range {text} is not LO-HI",
            "pass e.g. --range 2-200; both ends count, 1 is the nearest text",
        )
    return range(int(low), int(high) + 1)


def run(options: Options, report: Report) -> None:
    """Mine negatives, search a part of the pool or merge parts, or score those of the input."""
    ranks = check(options)

    from fletching.io import check_output

    # Before torch is imported, which takes seconds.
    check_models(options)
    check_output(options.output, report.tool)

    if options.engine:
        _run_by_engine(options, ranks, report)
    else:
        _run_here(options, ranks, report)


def _run_here(options: Options, ranks: range, report: Report) -> None:
    from hnmine.run import MiningRun

    MiningRun(options, ranks, version=TOOL.version, report=report).run()


def _run_by_engine(options: Options, ranks: range, report: Report) -> None:
    """All parts of the pool by --engine, then their merge here."""
    from fletching.shards.engine_run import shards_of

    if not options.vectors:
        report.note(
            "each part encodes the texts in batches of its own: scores may differ from those of "
            "one run by rounding; --vectors gives the same bytes"
        )
    with shards_of(TOOL, options, report, flag="pool_shard") as folder:
        parts = tuple(folder.outputs[index].path for index in range(folder.count))
        _run_here(dataclasses.replace(options, merge=parts), ranks, report)


TOOL = cli.Tool(
    name="hnmine",
    options=Options,
    run=run,
    doc=__doc__,
    usage="hnmine [EXAMPLES...] --model M [--corpus TEXTS] [--negatives K] [--range LO-HI]"
    " [-o OUT]",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """Run hnmine as a program: the exit code."""
    return cli.main(TOOL, argv)
