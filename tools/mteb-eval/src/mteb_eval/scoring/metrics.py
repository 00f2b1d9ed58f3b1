"""The names of metrics: mteb's, and the field's spelling of them. No import, so that options can be checked at once."""

from __future__ import annotations

CUTS = (1, 3, 5, 10, 20, 100, 1000)  # the depths at which mteb scores retrieval
SHOWN = {
    "ndcg": "nDCG",
    "mrr": "MRR",
    "map": "MAP",
    "recall": "Recall",
    "precision": "Precision",
    "hit_rate": "HitRate",
}
PLAIN = {
    "cosine_spearman": "Spearman",
    "cosine_pearson": "Pearson",
    "cosine_ap": "AP",
    "max_ap": "AP (best)",
    "mrr_pessimistic": "MRR",
}


def metric_name(metric: str) -> str:
    """The field's spelling.

    >>> metric_name("ndcg_at_10")
    'nDCG@10'
    """
    family, _, cut = metric.partition("_at_")
    return f"{SHOWN[family]}@{cut}" if cut and family in SHOWN else PLAIN.get(metric, metric)


def metric_key(shown: str) -> str:
    """mteb's spelling of a metric that a user wrote in either.

    >>> metric_key("nDCG@10")
    'ndcg_at_10'
    """
    for key, name in PLAIN.items():
        if name != "MRR" and shown.casefold() == name.casefold():
            return key
    family, _, cut = shown.partition("@")
    by_name = {name.casefold(): key for key, name in SHOWN.items()}
    return f"{by_name.get(family.casefold(), family)}_at_{cut}" if cut else shown
