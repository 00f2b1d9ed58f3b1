"""The guard against forgetting: a model's neighbours beside those of the baseline.

Each text of a sample is a query, and the others are the documents. The ten that the baseline ranks
first are relevant, the nearest most (grades 10, 9 … 1), so that the baseline has an nDCG@10 of 1
and any other model has as much of it as it keeps of the baseline's neighbourhoods.
"""

from __future__ import annotations

from typing import Any

from mteb.models.search_wrappers import SearchEncoderWrapper

from mteb_eval.data.collection import RetrievalCollection
from mteb_eval.data.guard_texts import GUARD, NEIGHBOURS, GuardTexts
from mteb_eval.data.local_tasks import LocalRetrieval
from mteb_eval.encoder import EvaluatedModel
from mteb_eval.result_store import LOADER_BATCH
from mteb_eval.scoring.rank_fusion import falling

SPLIT = "test"


def neighbour_task(guard: GuardTexts, baseline: EvaluatedModel) -> LocalRetrieval:
    """The task whose relevant documents are the neighbours of each text by the baseline."""
    unjudged = _task(guard, {})
    baseline.prepare(unjudged)
    data = unjudged.dataset["default"][SPLIT]
    search = SearchEncoderWrapper(baseline)
    where: dict[str, Any] = {
        "task_metadata": unjudged.metadata,
        "hf_split": SPLIT,
        "hf_subset": "default",
        "encode_kwargs": {"batch_size": LOADER_BATCH, "show_progress_bar": False},
    }
    search.index(data["corpus"], **where)
    # As deep as in the evaluation: where many texts tie, the cut decides which of them remain.
    retrieved = search.search(data["queries"], top_k=unjudged._top_k, **where)
    relevant = {}
    for query, scores in retrieved.items():
        others = [name for name in falling(scores) if name != query][:NEIGHBOURS]
        relevant[query] = {name: NEIGHBOURS - rank for rank, name in enumerate(others)}
    return _task(guard, relevant)


def _task(guard: GuardTexts, relevant: dict[str, dict[str, int]]) -> LocalRetrieval:
    collection = RetrievalCollection(
        name=GUARD,
        split=SPLIT,
        queries=guard.texts,
        documents=guard.texts,
        relevant=relevant,
        ignore_identical_ids=True,
    )
    return LocalRetrieval(collection)
