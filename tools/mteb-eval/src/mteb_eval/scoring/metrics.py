"""The metrics: one registered line each says its names, how it is computed and which way is better.

Adding one here is all it takes: the command line, stored results, intervals, the quality gate,
the table and the page read `METRICS`. Two kinds are computed from observations, so that they have
intervals:

per_query    retrieval, the mean over queries of a function of one query: `ndcg_at_10`
of_pairs     STS and pair classification, a function of all labels and cosines: `cosine_spearman`

A metric with neither is mteb's own figure, without an interval. Nothing heavy is imported at the
top: `--metrics` is checked before any work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching.registry import Registry
from mteb_eval.data.ranking import MISSED, RankedQuery

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

DEPTHS = (1, 3, 5, 10, 20, 100, 1000)  # at which mteb scores retrieval


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    key: its name in options and results, without the depth. spelling: as papers write it.
    per_query: (query, depth) to its value; None where this task has none. The depth is 0 for a
    metric without depths.
    of_pairs: (labels, cosines), both (pairs,), to its value. kinds: mteb's types of the tasks on
    pairs that it is meant for; empty: all of them.
    """

    key: str
    spelling: str
    per_query: Callable[[RankedQuery, int], float | None] | None = None
    has_depths: bool = False
    of_pairs: Callable[[Floats, Floats], float] | None = None
    kinds: tuple[str, ...] = ()
    higher_is_better: bool = True

    @property
    def names(self) -> dict[str, int]:
        """Every name that it has in results, with the depth: `ndcg_at_1`, `ndcg_at_3` …"""
        if not self.has_depths:
            return {self.key: 0}
        return {f"{self.key}_at_{depth}": depth for depth in DEPTHS}


METRICS = Registry[Metric]("metric")


def register(metric: Metric) -> None:
    """Make a metric known under its key."""
    METRICS.register(metric.key, metric)


# --- formulas ------------------------------------------------------------------------------------


def by_mteb(name: str) -> Callable[[RankedQuery, int], float | None]:
    """The figure that mteb computes for each query: pytrec_eval's `name`, at the depth."""
    return lambda query, depth: query.by_mteb.get(f"{name}_{depth}")


def reciprocal_rank(query: RankedQuery, depth: int) -> float:
    """1 / rank of the first relevant document, 0 beyond the depth.

    Computed here, since mteb keeps only the mean.
    """
    rank = query.first_rank
    is_hit = rank != MISSED and rank <= depth
    return 1 / rank if is_hit else 0.0


def pessimistic_reciprocal_rank(query: RankedQuery, depth: int) -> float:
    """1 / number of documents that score at least as high as the best relevant one."""
    return 1 / query.pessimistic_rank


def spearman(labels: Floats, cosines: Floats) -> float:
    """Rank correlation; tied values share their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(labels), rankdata(cosines))


def pearson(first: Floats, second: Floats) -> float:
    """Linear correlation; 0 where one of them is constant."""
    first = first - first.mean()
    second = second - second.mean()
    norm = math.sqrt((first @ first) * (second @ second))
    return float(first @ second / norm) if norm else 0.0


def average_precision(labels: Floats, cosines: Floats) -> float:
    """Σ (R_n - R_{n-1}) P_n over the distinct cosines, highest first; tied pairs are one step."""
    import numpy as np

    order = np.argsort(-cosines, kind="stable")
    hits = np.cumsum(labels[order])
    if not hits[-1]:
        return 0.0
    # The last pair of each group of equal cosines.
    ends = np.append(np.flatnonzero(np.diff(cosines[order])), len(order) - 1)
    new_hits = np.diff(hits[ends], prepend=0)
    weighted_precision = new_hits * hits[ends] / (ends + 1)
    return float(weighted_precision.sum() / hits[-1])


# --- the metrics ---------------------------------------------------------------------------------

for key, spelling, name_of_mteb in (
    ("ndcg", "nDCG", "ndcg_cut"),
    ("map", "MAP", "map_cut"),
    ("recall", "Recall", "recall"),
    ("precision", "Precision", "P"),
    ("hit_rate", "HitRate", "success"),
):
    register(Metric(key=key, spelling=spelling, per_query=by_mteb(name_of_mteb), has_depths=True))
register(Metric(key="mrr", spelling="MRR", per_query=reciprocal_rank, has_depths=True))
register(
    Metric(
        key="mrr_pessimistic",  # CodeSearchNet's: ties count against the model
        spelling="MRR",
        per_query=pessimistic_reciprocal_rank,
    )
)
register(Metric(key="cosine_spearman", spelling="Spearman", of_pairs=spearman, kinds=("STS",)))
register(Metric(key="cosine_pearson", spelling="Pearson", of_pairs=pearson, kinds=("STS",)))
register(
    Metric(
        key="cosine_ap",
        spelling="AP",
        of_pairs=average_precision,
        kinds=("PairClassification",),
    )
)
register(Metric(key="max_ap", spelling="AP (best)"))


# --- names ---------------------------------------------------------------------------------------


def find_metric(name: str) -> Metric | None:
    """The registered metric of a name in results (`ndcg_at_10`); None for mteb's other figures."""
    key, _, depth = name.partition("_at_")
    if key not in METRICS:
        return None
    metric = METRICS[key]
    return metric if metric.has_depths == bool(depth) else None


def spell_metric(name: str) -> str:
    """The name as papers write it; a figure that is not registered keeps mteb's name.

    >>> spell_metric("ndcg_at_10")
    'nDCG@10'
    """
    metric = find_metric(name)
    if metric is None:
        return name
    _, _, depth = name.partition("_at_")
    return f"{metric.spelling}@{depth}" if depth else metric.spelling


def parse_metric(text: str) -> str:
    """The name in results of what a user wrote in either spelling.

    >>> parse_metric("nDCG@10"), parse_metric("spearman"), parse_metric("accuracy")
    ('ndcg_at_10', 'cosine_spearman', 'accuracy')
    """
    spelling, _, depth = text.partition("@")
    by_spelling: dict[str, Metric] = {}
    for metric in METRICS.values():
        by_spelling.setdefault(metric.spelling.casefold(), metric)  # MRR is the one with depths
    match = by_spelling.get(spelling.casefold())
    is_known = match is not None and match.has_depths == bool(depth)
    key = match.key if match is not None and is_known else spelling
    return f"{key}_at_{depth}" if depth else key


def improvement(name: str, change: float) -> float:
    """A change of the metric, positive where it is for the better."""
    metric = find_metric(name)
    is_loss = metric is not None and not metric.higher_is_better
    return -change if is_loss else change
