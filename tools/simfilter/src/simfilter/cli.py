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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, MODEL, RUN, Encoding, Examples, Output, Standard
from fletching.report import Report

if TYPE_CHECKING:
    from simfilter.criteria import Criteria

CRITERIA = "criteria (they combine; without one, --rank-within 50)"
DEFAULT_RANK = 50  # chosen by bench/simfilter_noise.py


@dataclass(frozen=True, kw_only=True)
class Options(Output, Examples, Encoding, Standard):
    model: str | None = cli.option(None, "sentence-transformers model: a folder or a hub name", metavar="M", group=MODEL)  # type: ignore[assignment]
    reranker: str | None = cli.option(None, "judge by a cross-encoder's score instead of the cosine", metavar="CE", group=MODEL)
    vectors: tuple[str, ...] = cli.option(
        (), "`vectors` of all queries and texts, in place of --model", metavar="FILE", group=MODEL, advanced=True, rows=False
    )
    use_scores: bool = cli.option(False, "judge by the `pos_scores` that the rows have; no model is needed", group=MODEL)
    min_sim: float | None = cli.option(None, "drop a positive whose score is below X", metavar="X", group=CRITERIA)
    max_sim: float | None = cli.option(
        None, "drop a positive whose score is above X: a near copy of the query", metavar="X", group=CRITERIA
    )
    keep_top: float | None = cli.option(None, "keep this share of the positives, the best ones", metavar="Q", low=0, high=1, group=CRITERIA)
    keep_top_by: Literal["all", "task", "domain"] = cli.option(
        "all", "the share is kept of all positives, or of each task's or domain's", group=CRITERIA, advanced=True
    )
    rank_within: int | None = cli.option(
        None, "keep a positive that is among the K nearest texts to its query", metavar="K", low=1, group=CRITERIA
    )
    corpus: tuple[str, ...] = cli.option(
        (),
        "`texts` that join the input's positives as the pool of --rank-within",
        metavar="TEXTS",
        group=CRITERIA,
        advanced=True,
        rows=False,
    )
    decontaminate: tuple[str, ...] = cli.option(
        (), "drop rows that have a text of these examples or texts", metavar="FILE", group=CRITERIA, rows=False
    )
    ngram: int = cli.option(
        0,
        "with --decontaminate: N words in a row in common are enough (13 is usual); 0: whole texts",
        metavar="N",
        low=0,
        high=100,
        group=CRITERIA,
        advanced=True,
    )
    score_only: bool = cli.option(False, "judge nothing, only write the scores", group=CRITERIA)
    rejects: str | None = cli.option(None, "write the dropped rows here, with reason and scores", metavar="FILE", group=IO, rows=False)
    as_pairs: bool = cli.option(False, "write one row for each positive: `query, document, cos_sim`", group=IO, advanced=True)
    replace_scores: bool = cli.option(False, "overwrite scores of a reranker, label or judge", group=IO, advanced=True)
    shard: str | None = cli.option(
        None, "do part I of N (0/4 ... 3/4) of the rows; the parts in order are the whole", metavar="I/N", group=RUN, advanced=True
    )


def check(options: Options) -> Criteria:
    from simfilter.criteria import Criteria

    low, high, top, rank = options.min_sim, options.max_sim, options.keep_top, options.rank_within
    judged = any(bound is not None for bound in (low, high, top, rank))
    if options.score_only and judged:
        raise Usage("--score-only judges nothing, but a criterion stands beside it", "leave one of them out")
    if not judged and not options.score_only and not options.decontaminate:
        if options.use_scores or options.reranker or options.shard:
            raise Usage("no criterion is given", "pass --min-sim X or --keep-top Q, or --score-only to look at the scores first")
        rank = DEFAULT_RANK
    if low is not None and high is not None and low > high:
        raise Usage(f"--min-sim {low} is above --max-sim {high}: nothing can pass", "swap them")
    if not (options.reranker or options.use_scores):
        for flag, bound in (("--min-sim", low), ("--max-sim", high)):
            if bound is not None and abs(bound) > 1:
                raise Usage(f"{flag} {bound:g} is {'above 1' if bound > 1 else 'below -1'}", "pass a value from -1 to 1")
    if options.shard and top is not None:
        raise Usage(
            "--keep-top needs all scores, but --shard sees a part",
            "score the shards with --score-only, then run --use-scores --keep-top on all of them",
        )
    if options.corpus and rank is None:
        raise Usage("--corpus is the pool of --rank-within, which is not given", "add --rank-within K")
    if options.ngram and not options.decontaminate:
        raise Usage("--ngram belongs to --decontaminate, which is not given", "add --decontaminate FILE")
    _check_scorer(options)
    return Criteria(low, high, rank, top, options.keep_top_by)


def _check_scorer(options: Options) -> None:
    if options.use_scores and (options.reranker or options.replace_scores):
        raise Usage("--use-scores takes the scores as they are, but --reranker or --replace-scores makes new ones", "leave one of them out")
    if options.model and options.vectors:
        raise Usage("--model and --vectors are both given", "leave one of them out")
    if options.vectors and (options.query_echo, options.doc_echo) != (None, None):
        raise Usage("--vectors are taken as they are, an echo would make others", "leave --query-echo and --doc-echo out, or pass --model")
    alone = options.rank_within is None and (options.use_scores or options.reranker)
    if not alone and not (options.model or options.vectors):
        raise Usage("--model is missing", "pass --model M: a sentence-transformers folder or hub name")
    if options.as_pairs and (options.reranker or options.use_scores):
        raise Usage(
            "--as-pairs writes cosines as `cos_sim`, but the scores are not cosines", "leave --as-pairs out; `pos_scores` holds the scores"
        )


def part(shard: str | None) -> tuple[int, int]:
    """`I/N` as numbers."""
    if shard is None:
        return 0, 1
    number, slash, count = shard.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise Usage(f"--shard {shard} is no I/N", "write 0/4, 1/4, 2/4 and 3/4 for four parts")
    return int(number), int(count)


def run(options: Options, report: Report) -> None:
    criteria, shard = check(options), part(options.shard)

    from fletching.io import Reader, Together, Writer, check_output

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
            version=TOOL.version, options=cli.row_options(options) | settings, sources=[reader, *([corpus] if corpus else [])]
        )
        outputs = stack.enter_context(Together())
        out = outputs.add(Writer(report, options.output, "examples", positive_units.PAIRS if options.as_pairs else columns, **lineage))
        rejects = None
        if options.rejects:
            rejects = outputs.add(
                Writer(report, options.rejects, "examples", columns.append(positive_units.REASON), count=False, **lineage)
            )
        by_default = criteria.rank != options.rank_within
        if by_default:
            report.note(f"no criterion is given: --rank-within {criteria.rank}")
        judged = left = 0
        work = Work(options, criteria.rank, shard, columns, encoder, reranker, rejects, report)
        for kept, dropped in criterion.decide(work.scored(reader, corpus, stack), criteria, work.kind, columns, report):
            judged, left = judged + len(kept) + len(dropped), left + len(kept)
            if options.as_pairs:
                pairs = positive_units.as_pairs(kept)
                report.add("further positives of a row", len(pairs) - len(kept))
                kept = pairs
            out.write(kept)
            if rejects:
                rejects.write(dropped)
        if by_default and 2 * left < judged:
            report.note(f"{1 - left / judged:.0%} of the rows are dropped: does the model know their language? --score-only looks first")


TOOL = cli.Tool(
    "simfilter", Options, run, __doc__, "simfilter [EXAMPLES...] --model M [--rank-within K] [--min-sim X] [--keep-top Q] [-o OUT]"
)


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
