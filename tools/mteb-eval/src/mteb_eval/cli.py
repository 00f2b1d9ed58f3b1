"""mteb-eval: compare embedding models on MTEB and on your own data.

Reads    models (sentence-transformers folders or hub names) and test data
Writes   a table of all models with 95 % intervals on stdout; `measures` to -o; results to --results
Holds    the texts of one task and, by path to the vectors on disk, about 120 bytes a text

  mteb-eval base/ tuned/ --examples test.parquet
  mteb-eval base/ tuned/ --examples faq=test.parquet --require-gain ndcg_at_10=0.02 -o m.parquet
"""

from __future__ import annotations

import os
import sys

from fletching import cli
from fletching.early_checks import check_inputs, check_model, check_page
from fletching.encode.opening import check_server
from fletching.errors import UsageError
from fletching.report import Report
from mteb_eval.data.names import name_paths
from mteb_eval.options import Options


def check(options: Options) -> None:
    """Raises UsageError for options that contradict each other or cannot work."""
    from fletching.io.writer import check_output

    registered = options.tasks or options.benchmark
    if options.fetch and not registered:
        raise UsageError("--fetch has nothing to fetch", "pass --tasks or --benchmark")
    if not (options.model or options.vectors or options.fetch):
        raise UsageError("no model is named", "mteb-eval MODEL... --examples FILE")
    named = options.examples or options.beir or options.sts or options.pairs or options.guard
    if not (named or registered):
        raise UsageError(
            "no test data is named",
            "pass --examples FILE, --beir DIR, --sts FILE, --pairs FILE or --tasks T",
        )
    if options.output is not None:
        check_output(options.output, "mteb-eval")
    for name in options.metrics:
        _check_metric(name)
    if options.mrr_candidates and (options.corpus or options.corpus_negatives):
        raise UsageError(
            "--mrr-candidates ranks the rows of --examples alone",
            "leave --corpus and --corpus-negatives out",
        )
    if options.per_query is not None:
        _check_side_output(options)
    if options.html:
        check_page(options.html)
    _check_models(options)


def _check_models(options: Options) -> None:
    """Raises InputError for a model that cannot be there; what a server has is seen later."""
    check_server(options)
    for path in name_paths(options.model, "model").values():
        if os.path.isdir(path) or not options.base_url:
            check_model("the model", path)


def _check_metric(name: str) -> None:
    """Raises UsageError for `ndcg@7`: mteb computes few depths."""
    from mteb_eval.scoring.metrics import DEPTHS, METRICS, parse_metric

    key, _, depth = parse_metric(name).partition("_at_")
    with_depths = [metric.key for metric in METRICS.values() if metric.has_depths]
    if depth and (key not in with_depths or depth not in map(str, DEPTHS)):
        depths = ", ".join(map(str, DEPTHS))
        raise UsageError(
            f"--metrics {name} is not a metric that mteb computes",
            f"pass {', '.join(with_depths)} at {depths}, e.g. ndcg_at_10",
        )


def _check_side_output(options: Options) -> None:
    """Raises UsageError where --per-query cannot be written, or would be the figures' file."""
    from fletching.io.writer import check_output

    path = options.per_query or ""
    if path in ("-", "-.jsonl"):
        raise UsageError(
            "--per-query - would mix with the table on stdout", "name a file, e.g. queries.parquet"
        )
    try:
        check_output(path, "mteb-eval")
    except UsageError as error:
        raise UsageError(error.what.replace("-o ", "--per-query "), error.fix) from None
    if options.output and os.path.abspath(path) == os.path.abspath(options.output):
        raise UsageError(
            f"-o and --per-query both name {path}", "name another file, e.g. queries.parquet"
        )


def _open_inputs(options: Options, report: Report) -> None:
    """Raises InputError where columns do not fit. Imports no mteb."""
    from fletching.io import Reader

    for path in name_paths(options.examples, "data set").values():
        Reader(report, [path], "examples", count=False)
    if options.corpus:
        Reader(report, options.corpus, "texts", count=False)
    if options.guard:
        Reader(report, [options.guard], ["examples", "texts"], count=False)


def run(options: Options, report: Report) -> int:
    """Compare the models: 0, or 1 where a demand of the quality gate is not met."""
    check(options)
    examples = list(name_paths(options.examples, "data set").values())
    inputs = [*examples, *options.corpus, *filter(None, [options.guard])]
    check_inputs(options, inputs, tool=TOOL.name, open_inputs=_open_inputs)

    from mteb_eval.run import compare_models

    out = sys.stderr if options.output == "-" else sys.stdout
    return compare_models(options, report, version=TOOL.version, out=out)


TOOL = cli.Tool(
    name="mteb-eval",
    options=Options,
    run=run,
    doc=__doc__,
    usage="mteb-eval MODEL... --examples FILE [--baseline MODEL] [-o OUT]",
    check=check,
    open_inputs=_open_inputs,
)


def main(argv: list[str] | None = None) -> int:
    """The program: its exit code."""
    return cli.main(TOOL, argv)
