"""A model and BM25 as one run: two rankings fused by their ranks."""

from __future__ import annotations

from typing import Any

import xxhash
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta
from mteb.models.search_wrappers import SearchEncoderWrapper
from mteb.types import EncodeKwargs, TopRankedDocumentsType

from fletching import lineage
from mteb_eval.bm25 import Bm25System, Results
from mteb_eval.data.names import FUSED
from mteb_eval.encoder import EvaluatedModel
from mteb_eval.scoring.rank_fusion import OFFSET, falling, reciprocal_rank_fusion


class FusedSystem:
    """A variant of a model with BM25, as mteb's SearchProtocol wants it.

    The model's vectors come from its cache, so a fused run costs one more search.
    """

    is_quantised = False

    def __init__(self, model: EvaluatedModel, bm25: Bm25System) -> None:
        self.model, self.bm25 = model, bm25
        self.name = model.name + FUSED
        self.report = model.report
        self.search_by_model = SearchEncoderWrapper(model)
        self.ignores_identical_ids = False

    @property
    def texts(self) -> int:
        """How many texts were encoded since `prepare`."""
        return self.model.texts

    @property
    def prompts_used(self) -> dict[str, str]:
        """What the model prepended last."""
        return self.model.prompts_used

    @property
    def settings(self) -> dict[str, Any]:
        """Those of both, and of the fusion."""
        return self.model.settings | self.bm25.settings | {"rank_fusion_k": OFFSET}

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """The model's, under another name and revision."""
        revision = xxhash.xxh3_128_hexdigest(lineage.dump(self.settings))
        changes = {"name": f"local/{self.model.name}+BM25", "revision": revision}
        return self.model.mteb_model_meta.model_copy(update=changes)

    def prepare(self, task: AbsTask) -> None:
        """Take over what a task says of its texts, and count from 0."""
        self.model.prepare(task)
        assert isinstance(task, AbsTaskRetrieval)
        self.ignores_identical_ids = task.ignore_identical_ids

    def index(
        self,
        corpus: Dataset,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: EncodeKwargs,
        **_: object,
    ) -> None:
        """Keep the corpus for both."""
        self.bm25.index(corpus)
        self.search_by_model.index(
            corpus,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            encode_kwargs=encode_kwargs,
        )

    def search(
        self,
        queries: Dataset,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: EncodeKwargs,
        top_ranked: TopRankedDocumentsType | None = None,
        **_: object,
    ) -> Results:
        """The fused scores of the best documents by query.

        A document of which the words do not speak (BM25 of 0) has no rank by BM25; nor has the
        document that is the query itself, where the task leaves it out.
        """
        by_model = self.search_by_model.search(
            queries,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            top_k=top_k,
            encode_kwargs=encode_kwargs,
            top_ranked=top_ranked,
        )
        by_words = self.bm25.rank(
            queries,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            top_k=top_k,
            top_ranked=top_ranked,
        )
        fused: Results = {}
        for query, scores in by_model.items():
            rankings = [falling(scores), by_words[query].matching()]
            if self.ignores_identical_ids:
                rankings = [[name for name in names if name != query] for names in rankings]
            fused[query] = reciprocal_rank_fusion(rankings, depth=top_k)
        return fused
