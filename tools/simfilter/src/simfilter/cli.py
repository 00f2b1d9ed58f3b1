"""simfilter: drop pairs whose query and positive do not fit together.

Reads    examples
Writes   examples with `pos_scores`; each positive is judged alone, a row goes when none is left
Holds    8,192 rows; --keep-top: 12 bytes a positive; --rank-within: 40 bytes a text of the pool,
         and the texts. Rows and vectors wait in temporary files then

  simfilter pairs.parquet --model M --min-sim 0.5 -o kept.parquet
  csv2pairs faq.csv --query q --pos a | simfilter --model M | hnmine --model M -o train.parquet
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from simfilter.options import Options

if TYPE_CHECKING:
    from simfilter.criteria import Criteria

DEFAULT_RANK = 50  # chosen by bench/simfilter_noise.py


def check(options: Options) -> Criteria:
    from simfilter.criteria import Criteria

    low, high, top, rank = options.min_sim, options.max_sim, options.keep_top, options.rank_within
    judged = any(bound is not None for bound in (low, high, top, rank))
    if options.score_only and judged:
        raise UsageError(
            "--score-only judges nothing, but a criterion stands beside it", "leave one of them out"
        )
    if not judged and not options.score_only and not options.decontaminate:
        if options.use_scores or options.reranker or options.shard:
            raise UsageError(
                "no criterion is given",
                "pass --min-sim X or --keep-top Q, or --score-only to look at the scores first",
            )
        rank = DEFAULT_RANK
    if low is not None and high is not None and low > high:
        raise UsageError(
            f"--min-sim {low} is above --max-sim {high}: nothing can pass", "swap them"
        )
    if not (options.reranker or options.use_scores):
        for flag, bound in (("--min-sim", low), ("--max-sim", high)):
            if bound is not None and abs(bound) > 1:
                raise UsageError(
                    f"{flag} {bound:g} is {'above 1' if bound > 1 else 'below -1'}",
                    "pass a value from -1 to 1",
                )
    if options.shard and top is not None:
        raise UsageError(
            "--keep-top needs all scores, but --shard sees a part",
            "score the shards with --score-only, then run --use-scores --keep-top on all of them",
        )
    if options.corpus and rank is None:
        raise UsageError(
            "--corpus is the pool of --rank-within, which is not given", "add --rank-within K"
        )
    if options.ngram and not options.decontaminate:
        raise UsageError(
            "--ngram belongs to --decontaminate, which is not given", "add --decontaminate FILE"
        )
    _check_scorer(options)
    return Criteria(low, high, rank, top, options.keep_top_by)


def _check_scorer(options: Options) -> None:
    if options.use_scores and (options.reranker or options.replace_scores):
        raise UsageError(
            "--use-scores takes the scores as they are, but --reranker or --replace-scores makes new ones",
            "leave one of them out",
        )
    if options.model and options.vectors:
        raise UsageError("--model and --vectors are both given", "leave one of them out")
    if options.vectors and (options.query_echo, options.doc_echo) != (None, None):
        raise UsageError(
            "--vectors are taken as they are, an echo would make others",
            "leave --query-echo and --doc-echo out, or pass --model",
        )
    alone = options.rank_within is None and (options.use_scores or options.reranker)
    if not alone and not (options.model or options.vectors):
        raise UsageError(
            "--model is missing", "pass --model M: a sentence-transformers folder or hub name"
        )
    if options.as_pairs and (options.reranker or options.use_scores):
        raise UsageError(
            "--as-pairs writes cosines as `cos_sim`, but the scores are not cosines",
            "leave --as-pairs out; `pos_scores` holds the scores",
        )


def part(shard: str | None) -> tuple[int, int]:
    """`I/N` as numbers."""
    if shard is None:
        return 0, 1
    number, slash, count = shard.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise UsageError(f"--shard {shard} is no I/N", "write 0/4, 1/4, 2/4 and 3/4 for four parts")
    return int(number), int(count)


def run(options: Options, report: Report) -> None:
    criteria, shard = check(options), part(options.shard)

    from fletching.io import AtomicOutputs, Reader, Writer, check_output

    check_output(options.output, report.tool)  # before torch and a model are loaded

    from simfilter import criteria as criterion
    from simfilter import pair_scores, positive_units
    from simfilter.scoring import Work, models

    reader = Reader(report, options.inputs, "examples", limit=options.limit)
    corpus = Reader(report, options.corpus, "texts", count=False) if options.corpus else None
    columns = pair_scores.scored_columns(reader.columns)
    with contextlib.ExitStack() as stack:
        encoder, reranker = models(options, criteria.rank, report, stack)
        settings = {"model": encoder.settings} if encoder else {}
        settings |= {"reranker": reranker.settings} if reranker else {}
        lineage: dict[str, Any] = dict(
            version=TOOL.version,
            options=cli.row_options(options) | settings,
            sources=[reader, *([corpus] if corpus else [])],
        )
        outputs = stack.enter_context(AtomicOutputs())
        out = outputs.add(
            Writer(
                report,
                options.output,
                "examples",
                positive_units.PAIRS if options.as_pairs else columns,
                **lineage,
            )
        )
        rejects = None
        if options.rejects:
            rejects = outputs.add(
                Writer(
                    report,
                    options.rejects,
                    "examples",
                    columns.append(positive_units.REASON),
                    count=False,
                    **lineage,
                )
            )
        by_default = criteria.rank != options.rank_within
        if by_default:
            report.note(f"no criterion is given: --rank-within {criteria.rank}")
        judged = left = 0
        work = Work(options, criteria.rank, shard, columns, encoder, reranker, rejects, report)
        for kept, dropped in criterion.decide(
            work.scored(reader, corpus, stack), criteria, work.kind, columns, report
        ):
            judged, left = judged + len(kept) + len(dropped), left + len(kept)
            if options.as_pairs:
                pairs = positive_units.as_pairs(kept)
                report.add("further positives of a row", len(pairs) - len(kept))
                kept = pairs
            out.write(kept)
            if rejects:
                rejects.write(dropped)
        if by_default and 2 * left < judged:
            report.note(
                f"{1 - left / judged:.0%} of the rows are dropped: does the model know their language? --score-only looks first"
            )


TOOL = cli.Tool(
    "simfilter",
    Options,
    run,
    __doc__,
    "simfilter [EXAMPLES...] --model M [--rank-within K] [--min-sim X] [--keep-top Q] [-o OUT]",
)


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
