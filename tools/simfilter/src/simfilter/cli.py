"""simfilter: drop pairs whose query and positive do not fit together.

Reads    examples
Writes   examples with `pos_scores`; each positive is judged alone, a row goes when none is left.
         With --relabel also `neg_scores`, and false negatives are positives
Holds    8,192 rows; --keep-top: 150 bytes a positive; --rank-within: 40 bytes a text of the pool,
         and the texts. Rows and vectors wait in temporary files then

  simfilter pairs.parquet --model M --min-sim 0.5 -o kept.parquet
  csv2pairs faq.csv --query q --pos a | simfilter --model M | hnmine --model M -o train.parquet
  synthgen mined.parquet --job judge --model L | simfilter --use-scores --relabel -o train.parquet
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from fletching import cli
from fletching.early_checks import check_models
from fletching.encode.opening import check_vectors, open_encoder
from fletching.errors import UsageError
from fletching.options import Shard
from fletching.report import Report
from fletching.shards.engine_checks import as_shard, check_engine
from simfilter.options import Options

if TYPE_CHECKING:
    from simfilter.scorers import ScoringModels

DEFAULT_RANK = 50  # chosen by bench/simfilter_noise.py


def check(options: Options) -> Options:
    """The options with the default criterion filled in. Raises UsageError for contradictions."""
    Shard.parse(options.shard)
    check_engine(options)
    if options.engine:  # what a shard cannot do, all of them cannot
        check(as_shard(options))
    _check_relabel(options)
    options = _with_criterion(options)
    _check_bounds(options)
    _check_companions(options)
    _check_scorer(options)
    return options


def _with_criterion(options: Options) -> Options:
    bounds = (options.min_sim, options.max_sim, options.keep_top, options.rank_within)
    has_bound = any(bound is not None for bound in bounds)
    if options.score_only and has_bound:
        raise UsageError(
            "--score-only drops nothing, but there is a criterion", "leave one of them out"
        )
    if has_bound or options.score_only or options.decontaminate or options.relabel:
        return options
    if options.use_scores or options.cross_encoder or options.shard:
        raise UsageError(
            "there is no criterion",
            "pass --min-sim X or --keep-top Q, or --score-only to look at the scores first",
        )
    return dataclasses.replace(options, rank_within=DEFAULT_RANK)


def _check_bounds(options: Options) -> None:
    low = options.min_sim
    high = options.max_sim
    if low is not None and high is not None and low > high:
        raise UsageError(
            f"--min-sim {low} is above --max-sim {high}: nothing can pass", "swap them"
        )
    if options.cross_encoder or options.use_scores:
        return
    for flag, bound in (("--min-sim", low), ("--max-sim", high)):
        if bound is not None and abs(bound) > 1:
            side = "above 1" if bound > 1 else "below -1"
            raise UsageError(f"{flag} {bound:g} is {side}", "pass a value from -1 to 1")


def _check_companions(options: Options) -> None:
    if options.shard and options.keep_top is not None:
        raise UsageError(
            "--keep-top needs all scores, but --shard sees a part",
            "score the shards with --score-only, then run --use-scores --keep-top on all of them",
        )
    if options.corpus and options.rank_within is None:
        raise UsageError(
            "--corpus is the pool of --rank-within, which is missing", "add --rank-within K"
        )
    if options.ngram and not options.decontaminate:
        raise UsageError(
            "--ngram belongs to --decontaminate, which is missing", "add --decontaminate FILE"
        )


def _check_relabel(options: Options) -> None:
    if options.relabel and options.rank_within is not None:
        raise UsageError(
            "--relabel changes the positives that --rank-within ranks",
            "run simfilter twice: the second reads what the first wrote",
        )
    bounds = {
        "--relabel-above": options.relabel_above is not None,
        "--relabel-margin": options.relabel_margin is not None,
        "--relabel-drop": options.relabel_drop > 0,
    }
    stated = [flag for flag, is_stated in bounds.items() if is_stated]
    if stated and not options.relabel:
        raise UsageError(f"{stated[0]} belongs to --relabel, which is missing", "add --relabel")


def _check_scorer(options: Options) -> None:
    if options.use_scores and (options.cross_encoder or options.replace_scores):
        raise UsageError(
            "--use-scores keeps the scores of the input, "
            "but --cross-encoder or --replace-scores makes new ones",
            "leave one of them out",
        )
    check_vectors(options, options.vectors)
    scored_otherwise = options.use_scores or options.cross_encoder
    needs_vectors = options.rank_within is not None or not scored_otherwise
    if needs_vectors and not (options.model or options.vectors):
        raise UsageError(
            "--model is missing", "pass --model M: a sentence-transformers folder or hub name"
        )
    if options.as_pairs and scored_otherwise:
        raise UsageError(
            "--as-pairs writes cosines as `cos_sim`, but the scores are not cosines",
            "leave --as-pairs out; `pos_scores` holds the scores",
        )


def _open_models(options: Options, report: Report, stack: contextlib.ExitStack) -> ScoringModels:
    """What encodes texts, where a cosine is needed, and what scores pairs, where it is asked to."""
    from simfilter.scorers import ScoringModels

    encoder = cross_encoder = None
    scored_otherwise = options.use_scores or options.cross_encoder is not None
    needs_vectors = options.rank_within is not None or not scored_otherwise
    if options.vectors or (options.model and needs_vectors):
        encoder = stack.enter_context(open_encoder(options, options.vectors, report))
    if options.cross_encoder is not None:
        from fletching.encode.reranker import Reranker

        name = options.cross_encoder
        cross_encoder = stack.enter_context(Reranker(name, options, option="--cross-encoder"))
    return ScoringModels(encoder=encoder, cross_encoder=cross_encoder)


def run(options: Options, report: Report) -> None:
    """Score the rows, and write those that meet the criteria."""
    stated = options
    options = check(stated)

    from fletching.io import AtomicOutputs, Reader, check_output

    if not options.use_scores:
        check_models(options)
    check_output(options.output, report.tool)  # before torch and a model are loaded
    if options.engine:
        from fletching.shards.engine_run import run_and_join

        run_and_join(TOOL, stated, report)
        return

    from simfilter import outputs, score_columns
    from simfilter.relabel import relabelled_columns
    from simfilter.row_filter import filter_rows, with_reasons
    from simfilter.scoring import RowScorer

    reader = Reader(report, options.inputs, "examples", limit=options.limit)
    corpus = Reader(report, options.corpus, "texts", count=False) if options.corpus else None
    columns = score_columns.scored_columns(reader.columns)
    if options.relabel:
        columns = relabelled_columns(columns)
    with contextlib.ExitStack() as stack:
        models = _open_models(options, report, stack)
        together = stack.enter_context(AtomicOutputs())
        out = outputs.FilterOutputs(
            together,
            columns=columns,
            options=options,
            report=report,
            version=TOOL.version,
            lineage_options=cli.row_options(stated) | models.settings,
            sources=[reader] if corpus is None else [reader, corpus],
        )
        by_default = options.rank_within != stated.rank_within
        if by_default:
            report.note(f"there is no criterion: --rank-within {options.rank_within} is used")
        scorer = RowScorer(options, models, columns=columns, report=report)
        units = with_reasons(scorer.score(reader, corpus), columns, options)
        for rows in filter_rows(units, columns, report):
            out.write(rows)
        if by_default:
            out.warn_if_most_are_dropped()


TOOL = cli.Tool(
    name="simfilter",
    options=Options,
    run=run,
    doc=__doc__,
    usage="simfilter [EXAMPLES...] --model M [--rank-within K] [--min-sim X] [--keep-top Q]"
    " [-o OUT]",
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """Run simfilter as a program: the exit code."""
    return cli.main(TOOL, argv)
