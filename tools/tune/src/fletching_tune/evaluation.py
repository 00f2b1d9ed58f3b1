"""Command lines of mteb-eval, and the figures that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fletching_tune.options import Options, Stage
from fletching_tune.selection import Floats
from fletching_tune.steps.step import Step, list_value, listed
from fletching_tune.training import model_words
from fletching_tune.work_folder import WorkFolder

METRIC = "ndcg_at_10"
SHOWN = "nDCG@10"
BASE = "base"
BM25 = "BM25"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One run of mteb-eval.

    name: of the step. split: the rows, dev or test. models: folders by the name in the table, the
    base first. corpus: files of `texts`. dtype: of the weights.
    """

    name: str
    stage: Stage
    split: str
    models: Mapping[str, str]
    corpus: Sequence[str]
    dtype: str
    guards: Sequence[str] = ()


def comparison_step(compared: Comparison, options: Options, work: WorkFolder) -> Step:
    """Rank the queries of a split by each model, and by words."""
    name = compared.name
    measures, page = work.file(f"{name}.parquet"), work.file(f"{name}.html")
    per_query, table = work.file(f"{name}.queries.parquet"), work.file(f"{name}.txt")
    rows = work.split(compared.split)
    return Step(
        name=name,
        stage=compared.stage,
        argv=(
            "mteb-eval",
            *(f"{model}={path}" for model, path in compared.models.items()),
            *("--examples", list_value(f"{compared.split}={rows}")),
            *listed("--corpus", compared.corpus),
            *listed("--guard", compared.guards),
            *("--bm25", "--metrics", METRIC, "--baseline", BASE),
            *("--per-query", per_query, "--html", page, "-o", measures),
            *("--results", work.file("results")),
            *model_words(options, dtype=compared.dtype),
            *("--seed", str(options.seed)),
        ),
        inputs=(rows, *compared.corpus, *compared.guards),
        models=tuple(compared.models.values()),
        outputs=(measures, page, per_query, table),
        stdout=table,
    )


def per_query_scores(path: str, models: Sequence[str]) -> dict[str, Floats]:
    """The nDCG@10 of each query by model, aligned; models that the file has not are left out."""
    import polars as pl

    rows = pl.read_parquet(path).filter(pl.col("name") == METRIC).sort("query_id")
    scores = {}
    for model in models:
        values = rows.filter(pl.col("run") == model)["value"].to_numpy()
        if len(values):
            scores[model] = values.astype(np.float64)
    return scores
