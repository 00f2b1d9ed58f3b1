"""The options of mteb-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    MODEL,
    CorpusOptions,
    EncodingOptions,
    LimitOptions,
    OutputOptions,
    SeedOptions,
    StandardOptions,
    VectorsOptions,
    option,
    override,
    positional,
)

# Headings in --help.
DATA = "test data (they combine; repeat or separate by commas)"
COMPARISON = "comparison"


@dataclass(frozen=True, kw_only=True)
@override(
    "output",
    None,
    because="stdout carries the comparison as text",
    help="the figures as measures: FILE.parquet, .arrow, .jsonl; - is an Arrow stream on stdout",
)
@override(
    "corpus",
    (),
    because="every --examples is a task, and all of them search the same corpus",
    help="`texts` that are documents of every --examples task too",
    group=DATA,
)
@override(
    "limit",
    None,
    because="every --examples is a task of its own length",
    help="read only the first N rows of each --examples",
    group=DATA,
)
@override(
    "vectors",
    (),
    because="each file is one more model of the comparison",
    help="precomputed `vectors` of all test texts as a model; NAME=FILE names it in the table",
)
@override("dtype", "float32", because="reproduces published figures, on any machine")
class Options(
    OutputOptions,
    SeedOptions,
    CorpusOptions,
    LimitOptions,
    EncodingOptions,
    VectorsOptions,
    StandardOptions,
):
    """Models, test data, what is compared, and where results go."""

    model: tuple[str, ...] = positional(  # type: ignore[assignment] # several models
        "models: folders, hub names or names that --base-url serves; NAME=MODEL names one in the "
        "table",
        "MODEL",
    )

    # --- test data

    examples: tuple[str, ...] = option(
        (),
        "held-out examples as a retrieval task; NAME=FILE names it",
        metavar="FILE",
        group=DATA,
        rows=False,
    )
    corpus_negatives: bool = option(
        False, "the negatives of the examples are documents too", group=DATA, advanced=True
    )
    reverse: bool = option(
        False,
        "swap queries and documents of the examples",
        group=DATA,
        advanced=True,
    )
    mrr_candidates: int | None = option(
        None,
        "CodeSearchNet's MRR instead: each query of --examples ranks N candidates",
        metavar="N",
        low=2,
        group=DATA,
        advanced=True,
    )
    beir: tuple[str, ...] = option(
        (),
        "a BEIR folder: corpus.jsonl, queries.jsonl, qrels/test.tsv",
        metavar="DIR",
        group=DATA,
        rows=False,
    )
    beir_split: str = option(
        "test",
        "relevance judgements of --beir: qrels/SPLIT.tsv",
        metavar="SPLIT",
        group=DATA,
        advanced=True,
    )
    sts: tuple[str, ...] = option(
        (),
        "scored pairs: sentence1, sentence2, score as CSV, TSV, JSONL or Parquet",
        metavar="FILE",
        group=DATA,
        rows=False,
    )
    pairs: tuple[str, ...] = option(
        (),
        "labelled pairs: sentence1, sentence2, label (1 same, 0 different)",
        metavar="FILE",
        group=DATA,
        rows=False,
    )
    tasks: tuple[str, ...] = option(
        (),
        "tasks that mteb knows, e.g. BIOSSES,SciFact; their data are in --data",
        metavar="T",
        group=DATA,
    )
    benchmark: tuple[str, ...] = option(
        (), "benchmarks that mteb knows, e.g. BEIR", metavar="B", group=DATA, advanced=True
    )
    guard: str | None = option(
        None,
        "a task `guard` against forgetting: examples, or `texts` (e.g. the training corpus) whose "
        "nearest neighbours by the baseline are the truth",
        metavar="FILE",
        group=DATA,
    )
    guard_texts: int = option(
        1000,
        "sample N of the texts of --guard",
        metavar="N",
        low=11,
        group=DATA,
        advanced=True,
    )
    data: str = option(
        "mteb-data",
        "folder of the data of --tasks and --benchmark",
        metavar="DIR",
        group=DATA,
        advanced=True,
        rows=False,
    )
    fetch: bool = option(
        False,
        "download the data that --data lacks; everything else runs offline",
        group=DATA,
        advanced=True,
        rows=False,
    )

    # --- models

    allow_prompt_mismatch: bool = option(
        False,
        "evaluate with other prompts, lengths or pooling than the model was trained with",
        group=MODEL,
        advanced=True,
    )
    dims: tuple[int, ...] = option(
        (),
        "also compare vectors truncated to their first N dimensions (Matryoshka)",
        metavar="N",
        low=1,
        group=MODEL,
    )
    quantise: tuple[Literal["int8", "binary"], ...] = option(
        (), "also compare quantised vectors", group=MODEL
    )

    # --- comparison

    bm25: bool = option(
        False,
        "also compare BM25, and each model fused with it, in retrieval",
        group=COMPARISON,
    )
    metrics: tuple[str, ...] = option(
        ("ndcg_at_10", "mrr_at_10", "recall_at_100"),
        "metrics to show; a task without them shows its main metric",
        metavar="M",
        group=COMPARISON,
    )
    baseline: str | None = option(
        None,
        "the model that the others are compared with [the first]",
        metavar="MODEL",
        group=COMPARISON,
        rows=False,
    )
    training: tuple[str, ...] = option(
        (),
        "training examples of a model: test texts that they contain are flagged",
        metavar="FILE",
        group=COMPARISON,
        rows=False,
    )
    require_gain: tuple[str, ...] = option(
        (),
        "exit with 1 unless METRIC gains more than X",
        metavar="METRIC=X",
        group=COMPARISON,
        rows=False,
    )
    max_loss: tuple[str, ...] = option(
        (),
        "exit with 1 if the main metric of TASK loses more than X",
        metavar="TASK=X",
        group=COMPARISON,
        rows=False,
    )
    changed: int = option(
        5,
        "show the N queries that rose most and the N that fell most",
        metavar="N",
        low=0,
        group=COMPARISON,
        advanced=True,
        rows=False,
    )

    # --- output

    format: Literal["text", "markdown", "csv", "latex", "json"] = option(
        "text", "how the comparison is printed on stdout", group=IO, rows=False
    )
    per_query: str | None = option(
        None,
        "the metrics of each query with the best documents, as measures",
        metavar="FILE",
        group=IO,
        rows=False,
        written=True,
    )
    html: str | None = option(
        None,
        "the comparison as one HTML page with plots",
        metavar="FILE",
        group=IO,
        rows=False,
        written=True,
    )
    results: str | None = option(
        None,
        "keep results here and reuse them [OUT.results]",
        metavar="DIR",
        group=IO,
        advanced=True,
        rows=False,
    )
