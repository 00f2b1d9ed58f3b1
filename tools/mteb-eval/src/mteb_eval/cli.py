"""mteb-eval: MTEB and your own data, honestly compared.

Reads    models (sentence-transformers folders or hub names) and test data
Writes   a table of all models with 95 % intervals on stdout; `measures` to -o; results to --results
Holds    the texts of one task and, by path to the vectors on disk, about 120 bytes a text

  mteb-eval base/ tuned/ --examples test.parquet
  mteb-eval base/ tuned/ --examples faq=test.parquet --require-gain ndcg_at_10=0.02 -o m.parquet
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, MODEL, Encoding, Output, Seed, Standard
from fletching.report import Report

DATA = "test data (they combine; repeat or separate by commas)"
SHOW = "comparison"


@dataclass(frozen=True, kw_only=True)
class Options(Output, Seed, Encoding, Standard):
    model: tuple[str, ...] = cli.positional("models: folders or hub names; NAME=MODEL names one in the table", "MODEL")  # type: ignore[assignment]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = cli.option("float32", "number type of the model", group=MODEL, advanced=True)
    output: str | None = cli.option(
        None,
        "write the figures as measures: FILE.parquet, .arrow, .jsonl; - is an Arrow stream on stdout",
        metavar="OUT",
        short="-o",
        group=IO,
        rows=False,
    )
    examples: tuple[str, ...] = cli.option(
        (), "held-out examples as a retrieval task; NAME=FILE names it", metavar="FILE", group=DATA, rows=False
    )
    corpus: tuple[str, ...] = cli.option(
        (), "texts that are documents of every --examples task too", metavar="TEXTS", group=DATA, rows=False
    )
    corpus_negatives: bool = cli.option(False, "the negatives of the examples are documents too", group=DATA, advanced=True)
    reverse: bool = cli.option(False, "the positives of the examples search for their queries", group=DATA, advanced=True)
    candidates: int | None = cli.option(
        None, "CodeSearchNet's MRR instead: each query of --examples among N candidates", metavar="N", low=2, group=DATA, advanced=True
    )
    training: tuple[str, ...] = cli.option(
        (), "examples that a model was trained on: test texts in them are flagged", metavar="FILE", group=SHOW, rows=False
    )
    allow_clash: bool = cli.option(
        False, "evaluate with other prompts, lengths or pooling than the model was trained with", group=MODEL, advanced=True
    )
    dims: tuple[int, ...] = cli.option(
        (), "compare vectors cut to their first N dimensions too (Matryoshka)", metavar="N", low=1, group=MODEL
    )
    quantise: tuple[Literal["int8", "binary"], ...] = cli.option((), "compare vectors of smaller numbers too", group=MODEL)
    limit: int | None = cli.option(None, "read the first N rows of each --examples only", metavar="N", low=1, group=DATA, advanced=True)
    beir: tuple[str, ...] = cli.option(
        (), "a BEIR folder: corpus.jsonl, queries.jsonl, qrels/test.tsv", metavar="DIR", group=DATA, rows=False
    )
    split: str = cli.option("test", "the qrels of --beir to use: qrels/SPLIT.tsv", metavar="SPLIT", group=DATA, advanced=True)
    sts: tuple[str, ...] = cli.option(
        (), "scored pairs: sentence1, sentence2, score as CSV, TSV, JSONL or Parquet", metavar="FILE", group=DATA, rows=False
    )
    pairs: tuple[str, ...] = cli.option(
        (), "labelled pairs: sentence1, sentence2, label (1 same, 0 different)", metavar="FILE", group=DATA, rows=False
    )
    tasks: tuple[str, ...] = cli.option(
        (), "tasks that mteb knows, e.g. BIOSSES,SciFact; their data stand in --data", metavar="T", group=DATA
    )
    benchmark: tuple[str, ...] = cli.option((), "benchmarks that mteb knows, e.g. BEIR", metavar="B", group=DATA, advanced=True)
    data: str = cli.option("mteb-data", "folder of the data of --tasks", metavar="DIR", group=DATA, advanced=True, rows=False)
    fetch: bool = cli.option(
        False, "download the data of --tasks that --data lacks; all else runs offline", group=DATA, advanced=True, rows=False
    )
    metrics: tuple[str, ...] = cli.option(
        ("ndcg_at_10", "mrr_at_10", "recall_at_100"), "what is shown of retrieval", metavar="M", group=SHOW
    )
    baseline: str | None = cli.option(None, "the others are compared with this model [the first]", metavar="MODEL", group=SHOW, rows=False)
    require_gain: tuple[str, ...] = cli.option(
        (), "exit with 1 unless METRIC gains more than X", metavar="METRIC=X", group=SHOW, rows=False
    )
    max_loss: tuple[str, ...] = cli.option(
        (), "exit with 1 if the main figure of TASK loses more than X", metavar="TASK=X", group=SHOW, rows=False
    )
    changed: int = cli.option(
        5, "show N queries that rose most and N that fell most", metavar="N", low=0, group=SHOW, advanced=True, rows=False
    )
    html: str | None = cli.option(None, "the comparison as one page with plots", metavar="FILE", group=IO, rows=False)
    results: str | None = cli.option(
        None, "keep results here and go on from them [OUT.results]", metavar="DIR", group=IO, advanced=True, rows=False
    )


def check(options: Options) -> None:
    from fletching.io.writer import check_output

    named = options.tasks or options.benchmark
    if options.fetch and not named:
        raise Usage("--fetch has nothing to fetch", "pass --tasks or --benchmark")
    if not options.model and not options.fetch:
        raise Usage("no model is named", "mteb-eval MODEL... --examples FILE")
    if not (options.examples or options.beir or options.sts or options.pairs or named):
        raise Usage("no test data is named", "pass --examples FILE, --beir DIR, --sts FILE, --pairs FILE or --tasks T")
    if options.output is not None:
        check_output(options.output, "mteb-eval")
    for name in options.metrics:
        check_metric(name)
    if options.candidates and (options.corpus or options.corpus_negatives):
        raise Usage("--candidates ranks the rows of --examples alone", "leave --corpus and --corpus-negatives out")
    if options.html and not os.path.isdir(os.path.dirname(options.html) or "."):
        raise Usage(f"the folder of --html {options.html} does not exist", f"mkdir -p {os.path.dirname(options.html)}")
    if options.html and os.path.isdir(options.html):
        raise Usage(f"--html {options.html} is a folder", "name a file, e.g. page.html")


def check_metric(name: str) -> None:
    """Refuse `ndcg@7` before the work: mteb computes 1, 3, 5, 10, 20, 100 and 1000."""
    from mteb_eval.scoring.metrics import CUTS, SHOWN, metric_key

    family, _, cut = metric_key(name).partition("_at_")
    if cut and (family not in SHOWN or cut not in map(str, CUTS)):
        depths = ", ".join(map(str, CUTS))
        raise Usage(f"--metrics {name} is no metric that mteb computes", f"pass {', '.join(SHOWN)} at {depths}, e.g. ndcg_at_10")


def run(options: Options, report: Report) -> int:
    check(options)

    from mteb_eval import run as work

    return work.compare(options, report, TOOL.version, sys.stderr if options.output == "-" else sys.stdout)


TOOL = cli.Tool("mteb-eval", Options, run, __doc__, "mteb-eval MODEL... --examples FILE [--baseline MODEL] [-o OUT]")


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
