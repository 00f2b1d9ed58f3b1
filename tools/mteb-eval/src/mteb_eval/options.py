"""The options of mteb-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    MODEL,
    EncodingOptions,
    OutputOptions,
    SeedOptions,
    StandardOptions,
    option,
    positional,
)

DATA = "test data (they combine; repeat or separate by commas)"
SHOW = "comparison"


@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions, SeedOptions, EncodingOptions, StandardOptions):
    model: tuple[str, ...] = positional(
        "models: folders or hub names; NAME=MODEL names one in the table", "MODEL"
    )  # type: ignore[assignment]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "float32", "number type of the model", group=MODEL, advanced=True
    )
    output: str | None = option(
        None,
        "write the figures as measures: FILE.parquet, .arrow, .jsonl; - is an Arrow stream on stdout",
        metavar="OUT",
        short="-o",
        group=IO,
        rows=False,
    )
    examples: tuple[str, ...] = option(
        (),
        "held-out examples as a retrieval task; NAME=FILE names it",
        metavar="FILE",
        group=DATA,
        rows=False,
    )
    corpus: tuple[str, ...] = option(
        (),
        "texts that are documents of every --examples task too",
        metavar="TEXTS",
        group=DATA,
        rows=False,
    )
    corpus_negatives: bool = option(
        False, "the negatives of the examples are documents too", group=DATA, advanced=True
    )
    reverse: bool = option(
        False, "the positives of the examples search for their queries", group=DATA, advanced=True
    )
    candidates: int | None = option(
        None,
        "CodeSearchNet's MRR instead: each query of --examples among N candidates",
        metavar="N",
        low=2,
        group=DATA,
        advanced=True,
    )
    training: tuple[str, ...] = option(
        (),
        "examples that a model was trained on: test texts in them are flagged",
        metavar="FILE",
        group=SHOW,
        rows=False,
    )
    allow_clash: bool = option(
        False,
        "evaluate with other prompts, lengths or pooling than the model was trained with",
        group=MODEL,
        advanced=True,
    )
    dims: tuple[int, ...] = option(
        (),
        "compare vectors cut to their first N dimensions too (Matryoshka)",
        metavar="N",
        low=1,
        group=MODEL,
    )
    quantise: tuple[Literal["int8", "binary"], ...] = option(
        (), "compare vectors of smaller numbers too", group=MODEL
    )
    limit: int | None = option(
        None,
        "read the first N rows of each --examples only",
        metavar="N",
        low=1,
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
    split: str = option(
        "test",
        "the qrels of --beir to use: qrels/SPLIT.tsv",
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
        "tasks that mteb knows, e.g. BIOSSES,SciFact; their data stand in --data",
        metavar="T",
        group=DATA,
    )
    benchmark: tuple[str, ...] = option(
        (), "benchmarks that mteb knows, e.g. BEIR", metavar="B", group=DATA, advanced=True
    )
    data: str = option(
        "mteb-data",
        "folder of the data of --tasks",
        metavar="DIR",
        group=DATA,
        advanced=True,
        rows=False,
    )
    fetch: bool = option(
        False,
        "download the data of --tasks that --data lacks; all else runs offline",
        group=DATA,
        advanced=True,
        rows=False,
    )
    metrics: tuple[str, ...] = option(
        ("ndcg_at_10", "mrr_at_10", "recall_at_100"),
        "what is shown of retrieval",
        metavar="M",
        group=SHOW,
    )
    baseline: str | None = option(
        None,
        "the others are compared with this model [the first]",
        metavar="MODEL",
        group=SHOW,
        rows=False,
    )
    require_gain: tuple[str, ...] = option(
        (),
        "exit with 1 unless METRIC gains more than X",
        metavar="METRIC=X",
        group=SHOW,
        rows=False,
    )
    max_loss: tuple[str, ...] = option(
        (),
        "exit with 1 if the main figure of TASK loses more than X",
        metavar="TASK=X",
        group=SHOW,
        rows=False,
    )
    changed: int = option(
        5,
        "show N queries that rose most and N that fell most",
        metavar="N",
        low=0,
        group=SHOW,
        advanced=True,
        rows=False,
    )
    html: str | None = option(
        None, "the comparison as one page with plots", metavar="FILE", group=IO, rows=False
    )
    results: str | None = option(
        None,
        "keep results here and go on from them [OUT.results]",
        metavar="DIR",
        group=IO,
        advanced=True,
        rows=False,
    )
