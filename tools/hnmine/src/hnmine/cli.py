"""hnmine: hard negatives that are negative.

Reads    examples, and with --corpus texts
Writes   examples with `neg`, `neg_scores`, `pos_scores`: near misses of a query, no known positive
Holds    the texts of the pool, 60 bytes for each, 300 for each row; rows and vectors wait on disk

  hnmine pairs.parquet --model M --negatives 5 -o train.parquet
  hnmine pairs.parquet --model M --corpus corpus.parquet --range 10-210 -o train.parquet
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, MODEL, RUN, Encoding, Examples, Output, Seed, Standard
from fletching.report import Report

CHOICE = "which negatives"
GUARDS = "guards against false negatives (they combine)"


@dataclass(frozen=True, kw_only=True)
class Options(Output, Examples, Encoding, Seed, Standard):
    model: str | None = cli.option(None, "sentence-transformers model: a folder or a hub name", metavar="M", group=MODEL)  # type: ignore[assignment]
    vectors: tuple[str, ...] = cli.option(
        (), "`vectors` of all queries and texts, in place of --model", metavar="FILE", group=MODEL, advanced=True, rows=False
    )
    negatives: int = cli.option(5, "hard negatives of a row", metavar="K", low=1, group=CHOICE)
    range: str = cli.option(
        "1-100",
        "ranks to choose from, 1 the nearest, after the query's own positives and their copies are taken out",
        metavar="LO-HI",
        group=CHOICE,
    )
    raw_range: bool = cli.option(
        False, "--range as FlagEmbedding has it: LO ranks are skipped, positives count as ranks", group=CHOICE, advanced=True
    )
    sample: Literal["random", "top", "weighted"] = cli.option(
        "random", "choose in the range at random (seeded by row), the nearest first, or at random by score", group=CHOICE
    )
    sample_temperature: float = cli.option(
        0.05, "with --sample weighted, chances go as exp(score / T)", metavar="T", low=0.001, high=100, group=CHOICE, advanced=True
    )
    corpus: tuple[str, ...] = cli.option(
        (), "`texts` that join the pool of the input's positives", metavar="TEXTS", group=CHOICE, rows=False
    )
    keep_neg: bool = cli.option(False, "old negatives stay, in front, and join the pool", group=CHOICE, advanced=True)
    pad: bool = cli.option(
        False, "fill rows that are short with random texts of the pool; `neg_padded` says how many", group=CHOICE, advanced=True
    )
    bm25: Literal["alone", "fused"] | None = cli.option(
        None, "rank by words instead of vectors, or by both (rank fusion); the scores stay cosines", group=CHOICE, advanced=True
    )
    index: Literal["exact", "ivf"] = cli.option(
        "exact", "ivf: FAISS's inverted lists, faster on millions of texts; its recall is measured and printed", group=CHOICE, advanced=True
    )
    probes: int = cli.option(32, "lists that --index ivf searches for a query", metavar="N", low=1, group=CHOICE, advanced=True)
    max_ratio: float | None = cli.option(
        0.95, "score at most p - (1-R)|p|, p the lowest score of a positive; 0 turns it off", metavar="R", low=0, high=1, group=GUARDS
    )
    margin: float | None = cli.option(None, "score at most p - X", metavar="X", low=0, high=2, group=GUARDS, advanced=True)
    max_sim: float | None = cli.option(None, "score at most X", metavar="X", low=-1, high=1, group=GUARDS, advanced=True)
    min_sim: float | None = cli.option(
        None, "score at least X: nearer than random", metavar="X", low=-1, high=1, group=GUARDS, advanced=True
    )
    near_copy: float = cli.option(
        0.98, "cosine to a positive from which a text counts as its copy", metavar="X", low=0, high=1.01, group=GUARDS, advanced=True
    )
    exclude_qrels: tuple[str, ...] = cli.option(
        (), "BEIR qrels (tsv): documents judged relevant to a row's id are no negatives", metavar="FILE", group=GUARDS, advanced=True
    )
    reranker: str | None = cli.option(
        None, "cross-encoder that rejects what it scores above a positive; its scores are written", metavar="CE", group=GUARDS
    )
    reranker_margin: float = cli.option(
        0.0,
        "reject what scores above p - X, p the lowest positive's reranker score",
        metavar="X",
        low=-100,
        high=100,
        group=GUARDS,
        advanced=True,
    )
    score_all: bool = cli.option(False, "mine nothing: write --reranker's score of every pos and neg there is", group=GUARDS, advanced=True)
    replace_scores: bool = cli.option(False, "overwrite scores of a reranker, label or judge", group=IO, advanced=True)
    shard: str | None = cli.option(
        None,
        "mine part I of N (0/4 ... 3/4) of the rows, from the whole pool; the parts in order are the whole",
        metavar="I/N",
        group=RUN,
        advanced=True,
    )


def check(options: Options) -> tuple[int, int]:
    """The range as two numbers."""
    low, dash, high = options.range.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise Usage(f"--range {options.range} is no LO-HI", "write e.g. --range 2-200; both count, 1 is the nearest")
    if int(high) - int(low) + (not options.raw_range) < options.negatives:
        raise Usage(f"--range {options.range} has room for fewer than --negatives {options.negatives}", "widen the range")
    if options.min_sim is not None and options.max_sim is not None and options.min_sim > options.max_sim:
        raise Usage(f"--min-sim {options.min_sim} is above --max-sim {options.max_sim}: nothing can pass", "swap them")
    if options.score_all and not options.reranker:
        raise Usage("--score-all has no --reranker to score with", "name a cross-encoder: --reranker CE")
    if not (options.model or options.vectors or options.score_all):
        raise Usage("--model is missing", "pass --model M: a sentence-transformers folder or hub name")
    if options.model and options.vectors:
        raise Usage("--model and --vectors are both given", "leave one of them out")
    if options.vectors and (options.query_echo, options.doc_echo) != (None, None):
        raise Usage("--vectors are taken as they are, an echo would make others", "leave --query-echo and --doc-echo out, or pass --model")
    return int(low), int(high)


def part(shard: str | None) -> tuple[int, int]:
    """`I/N` as numbers."""
    if shard is None:
        return 0, 1
    number, slash, count = shard.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise Usage(f"--shard {shard} is no I/N", "write 0/4, 1/4, 2/4 and 3/4 for four parts")
    return int(number), int(count)


def run(options: Options, report: Report) -> None:
    window, shard = check(options), part(options.shard)

    from fletching.io import Reader, Writer, check_output

    check_output(options.output, report.tool)  # before torch and a model are loaded

    from hnmine import rows as made
    from hnmine.pool import Pool, Spool

    rows = Reader(report, options.inputs, "examples", limit=options.limit)
    corpus = Reader(report, options.corpus, "texts", count=False) if options.corpus else None
    columns = made.scored_columns(rows.columns) if options.score_all else made.mined_columns(rows.columns, options.pad)
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
            out.write(made.with_negatives(unit, start, columns, pool, mined, options.replace_scores))


def _models(options: Options, report: Report, stack: contextlib.ExitStack) -> tuple[Any, Any]:
    """What encodes and what reranks; None for what is not needed."""
    encoder: Any = None
    reranker: Any = None
    if options.reranker:
        from fletching.encode.reranker import Reranker

        reranker = stack.enter_context(Reranker(options.reranker, options))
    if options.vectors and not options.score_all:
        from fletching.encode.precomputed import Given

        encoder = stack.enter_context(Given(options.vectors, report, options.query_prompt, options.doc_prompt))
    elif not options.score_all:
        from fletching.encode import Encoder

        encoder = stack.enter_context(Encoder(options, report))
    return encoder, reranker


def _warn_of_old_negatives(spool: Any, report: Report) -> None:
    replaced = sum(len(unit) - unit["neg"].null_count for unit in spool.units if "neg" in unit.schema.names)
    if replaced:
        report.note(f"{replaced:,} rows had negatives, which are replaced; --keep-neg keeps them")


TOOL = cli.Tool("hnmine", Options, run, __doc__, "hnmine [EXAMPLES...] --model M [--corpus TEXTS] [--negatives K] [--range LO-HI] [-o OUT]")


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
