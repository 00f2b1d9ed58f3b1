"""Command lines of mteb-eval, and the figures that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fletching_tune.options import Options, Stage
from fletching_tune.selection import Floats, group_values
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
    guard: str | None = None


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
            *(() if compared.guard is None else ("--guard", compared.guard)),
            *("--bm25", "--metrics", METRIC, "--baseline", BASE),
            *("--per-query", per_query, "--html", page, "-o", measures),
            *("--results", work.file("results")),
            *model_words(options, dtype=compared.dtype),
            *("--seed", str(options.seed)),
        ),
        inputs=(rows, *compared.corpus, *([compared.guard] if compared.guard else [])),
        models=tuple(compared.models.values()),
        outputs=(measures, page, per_query, table),
        stdout=table,
    )


@dataclass(frozen=True)
class QueryScores:
    """nDCG@10 of each query by model, aligned, and the number of its group.

    Queries with the very same answers are one group: their gains go together.
    """

    by_model: Mapping[str, Floats]
    groups: npt.NDArray[np.int64]

    def gains(self, models: Sequence[str]) -> dict[str, Floats]:
        """Differences from the base, one value a group, with the mean of the queries."""
        base = self.by_model[BASE]
        return {name: group_values(self.by_model[name] - base, self.groups) for name in models}

    def mean(self, model: str) -> float | None:
        """The mean over the queries; None for a model that was not measured."""
        return float(self.by_model[model].mean()) if model in self.by_model else None


def read_scores(path: str, task: str, models: Sequence[str]) -> QueryScores:
    """The scores of a --per-query file; models that it has not are left out."""
    import polars as pl

    of_task = (pl.col("name") == METRIC) & (pl.col("task") == task)
    rows = pl.read_parquet(path).filter(of_task).sort("query_id")
    by_model = {}
    for model in models:
        values = rows.filter(pl.col("run") == model)["value"].to_numpy()
        if len(values):
            by_model[model] = values.astype(np.float64)
    answers = rows.filter(pl.col("run") == BASE).select(pl.col("relevant_ids").list.sort())
    numbers = answers.with_columns(pl.struct("relevant_ids").rank("dense").alias("group"))
    return QueryScores(by_model, numbers["group"].to_numpy().astype(np.int64) - 1)
