"""Command lines of mteb-eval, and the figures that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fletching_tune.counts import row_count
from fletching_tune.options import Options, Stage
from fletching_tune.selection import Floats, group_values
from fletching_tune.steps.step import Step, list_value, listed
from fletching_tune.table import is_grouped
from fletching_tune.training import model_words
from fletching_tune.work_folder import WorkFolder

METRIC = "ndcg_at_10"
SHOWN = "nDCG@10"
BASE = "base"
BM25 = "BM25"
GUARD = "guard"
KEPT = "recall_at_10"  # of the guard: the share of the base's nearest neighbours that still are
FEWEST_GUARD_TEXTS = 50


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


def guard_file(options: Options, corpus: Sequence[str]) -> str | None:
    """What shows forgetting: --guard, else the documents, whose neighbours the base knows.

    corpus: of `documents_step` where rows do not answer each other. None where it is too small.
    """
    if options.guard is not None or not corpus or is_grouped(options):
        return options.guard
    return corpus[0] if row_count(corpus[0]) >= FEWEST_GUARD_TEXTS else None


@dataclass(frozen=True)
class QueryScores:
    """The score of each query by model, aligned, and the number of its group.

    Queries with the very same answers are one group: their gains go together.
    """

    by_model: Mapping[str, Floats]
    groups: npt.NDArray[np.int64]

    def gains(self, models: Sequence[str]) -> dict[str, Floats]:
        """Differences from the base, one value a group, with the mean of the queries."""
        base = self.by_model[BASE]
        return {name: group_values(self.by_model[name] - base, self.groups) for name in models}

    def shares(self, models: Sequence[str]) -> dict[str, float]:
        """The mean of each model over that of the base, at most 1."""
        base = float(self.by_model[BASE].mean()) or 1.0
        return {name: min(float(self.by_model[name].mean()) / base, 1.0) for name in models}

    def mean(self, model: str) -> float | None:
        """The mean over the queries; None for a model that was not measured."""
        return float(self.by_model[model].mean()) if model in self.by_model else None


def read_scores(path: str, task: str, models: Sequence[str]) -> QueryScores:
    """The scores of a --per-query file; models that it has not are left out.

    nDCG@10; of a guard by neighbours, how many of the ten nearest still are among them.
    """
    import polars as pl

    rows = pl.read_parquet(path).filter(pl.col("task") == task).sort("query_id")
    has_neighbours = task == GUARD and KEPT in rows["name"]
    rows = rows.filter(pl.col("name") == (KEPT if has_neighbours else METRIC))
    by_model = {}
    for model in models:
        values = rows.filter(pl.col("run") == model)["value"].to_numpy()
        if len(values):
            by_model[model] = values.astype(np.float64)
    answers = rows.filter(pl.col("run") == BASE).select(pl.col("relevant_ids").list.sort())
    numbers = answers.with_columns(pl.struct("relevant_ids").rank("dense").alias("group"))
    return QueryScores(by_model, numbers["group"].to_numpy().astype(np.int64) - 1)
