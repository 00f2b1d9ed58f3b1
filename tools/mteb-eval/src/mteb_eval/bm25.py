"""BM25 as a run of its own: what words alone find, without a model.

bm25s with its defaults: Lucene's formula, k1 1.5, b 0.75, lower-cased words of two letters or more,
no stop words, no stems, so that it favours no language. Scripts that set no blanks between words
(Chinese, Japanese, Thai, Khmer …) count sign by sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from datasets import Dataset
from mteb._create_dataloaders import create_dataloader
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta
from mteb.types import PromptType, TopRankedDocumentsType

from fletching import lineage
from fletching.errors import UsageError
from fletching.report import Report
from mteb_eval.data.names import BM25

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Results = dict[str, dict[str, float]]  # scores of the retrieved documents, by query id

# Thai, Lao, Tibetan, Myanmar, Khmer; kana; Han.
UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
TOKEN = rf"(?u)[{UNSPACED}]|(?:(?![{UNSPACED}])\w){{2,}}"
PARAMETERS = {"method": "lucene", "k1": 1.5, "b": 0.75}
LOADER_BATCH = 1024


def tokenize(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, in their order."""
    import bm25s

    words: list[list[str]] = bm25s.tokenize(
        list(texts),
        token_pattern=TOKEN,
        stopwords=None,
        return_ids=False,
        show_progress=False,
    )
    return words


class Bm25Index:
    """The documents of a corpus, in memory: about 12 bytes for each word of each document."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self.size = len(texts)
        words = tokenize(texts)
        self.is_empty = not any(words)  # of which bm25s makes no index
        self.index = bm25s.BM25(**PARAMETERS)
        if not self.is_empty:
            self.index.index(words, show_progress=False)

    def scores(self, words: Sequence[str]) -> Scores:
        """The scores of all documents for the words of a query, (documents,); 0: none in common."""
        if self.is_empty:
            return np.zeros(self.size, np.float32)
        numbers = self.index.get_tokens_ids(words)
        if not numbers:
            return np.zeros(self.size, np.float32)
        scores: Scores = self.index.get_scores_from_ids(numbers)
        return scores


@dataclass(frozen=True)
class WordRanking:
    """The documents of one query, best first. names: of all documents of the corpus, by number."""

    names: Sequence[str]
    numbers: Numbers = field(repr=False)
    scores: Scores = field(repr=False)

    def as_scores(self) -> dict[str, float]:
        """The scores by document id, best first."""
        names = [self.names[number] for number in self.numbers]
        return dict(zip(names, self.scores.tolist()))

    def matching(self) -> list[str]:
        """The documents that share a word with the query, best first."""
        return [self.names[number] for number in self.numbers[self.scores > 0]]


class Bm25System:
    """BM25 as mteb's SearchProtocol wants it. Raises UsageError where bm25s is not installed.

    The rankings of a task are kept, so that every model can be fused with them: 12 bytes for
    each of 1,000 documents of a query.
    """

    name = BM25
    is_quantised = False

    def __init__(self, report: Report) -> None:
        require_bm25s()
        self.report = report
        self.texts = 0
        self.prompts_used: dict[str, str] = {}
        self.corpus: Dataset | None = None
        self.rankings: dict[tuple[str, str, str], dict[str, WordRanking]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The formula, what a word is, and the version of bm25s."""
        import importlib.metadata

        return {
            "bm25": PARAMETERS,
            "bm25_token": TOKEN,
            "bm25s": importlib.metadata.version("bm25s"),
        }

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """A name, and a hash of the settings as revision."""
        revision = xxhash.xxh3_128_hexdigest(lineage.dump(self.settings))
        overwrites: dict[str, Any] = {"name": f"local/{BM25}", "revision": revision}
        return ModelMeta.create_empty(overwrites)

    def prepare(self, task: AbsTask) -> None:
        """Nothing of a task changes what words are."""
        self.texts = 0

    def index(self, corpus: Dataset, **_: object) -> None:
        """Keep the corpus: it is indexed when queries come whose ranking is not known."""
        self.corpus = corpus

    def search(
        self,
        queries: Dataset,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: TopRankedDocumentsType | None = None,
        **_: object,
    ) -> Results:
        """The scores of the best documents by query, or of the candidates in `top_ranked`."""
        ranked = self.rank(
            queries,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            top_k=top_k,
            top_ranked=top_ranked,
        )
        return {name: ranking.as_scores() for name, ranking in ranked.items()}

    def rank(
        self,
        queries: Dataset,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: TopRankedDocumentsType | None,
    ) -> dict[str, WordRanking]:
        """The ranking by query; that of a task and split is made once."""
        key = task_metadata.name, hf_split, hf_subset
        if key not in self.rankings:
            assert self.corpus is not None
            search = _WordSearch(self.corpus, task_metadata)
            ranked = search.rank(queries, depth=top_k, candidates=top_ranked)
            self.rankings[key] = dict(ranked)
            self.texts += search.size
        return self.rankings[key]


class _WordSearch:
    """One corpus and its index."""

    def __init__(self, corpus: Dataset, task_metadata: TaskMetadata) -> None:
        self.task_metadata = task_metadata
        self.names: list[str] = list(corpus["id"])
        self.size = len(self.names)
        # Titles and instructions are joined to the texts as they are for encoders.
        self.index = Bm25Index(self._texts(corpus, PromptType.document))
        self.by_name = {name: number for number, name in enumerate(self.names)}
        order = np.argsort(np.array(self.names, object), kind="stable")
        self.name_ranks = np.empty(self.size, np.int64)  # of ids in rising order
        self.name_ranks[order] = np.arange(self.size)

    def _texts(self, rows: Dataset, kind: PromptType) -> list[str]:
        loader = create_dataloader(
            rows, task_metadata=self.task_metadata, prompt_type=kind, batch_size=LOADER_BATCH
        )
        return [text for batch in loader for text in batch["text"]]

    def rank(
        self, queries: Dataset, *, depth: int, candidates: TopRankedDocumentsType | None
    ) -> Iterable[tuple[str, WordRanking]]:
        """(query id, ranking) of each query; of the candidates all, also those without a word."""
        words = tokenize(self._texts(queries, PromptType.query))
        for name, of_query in zip(queries["id"], words):
            scores = self.index.scores(of_query)
            if candidates is None:
                numbers = np.flatnonzero(scores > 0)
            else:
                numbers = np.array([self.by_name[each] for each in candidates[name]], np.int64)
            best = self._falling(scores, numbers, depth)
            yield name, WordRanking(self.names, best, scores[best])

    def _falling(self, scores: Scores, numbers: Numbers, depth: int) -> Numbers:
        """The best of these documents; equal scores by falling id, as in trec_eval."""
        if len(numbers) > depth:  # all that tie with the last one remain
            edge = np.partition(scores[numbers], len(numbers) - depth)[len(numbers) - depth]
            numbers = numbers[scores[numbers] >= edge]
        order = np.lexsort((-self.name_ranks[numbers], -scores[numbers]))
        return numbers[order[:depth]]


def require_bm25s() -> None:
    """Raises UsageError where bm25s is not installed."""
    import importlib.util

    if importlib.util.find_spec("bm25s") is None:
        raise UsageError(
            "--bm25 needs the package bm25s, which is not installed",
            "pip install 'fletching-mteb-eval[bm25]'",
        )
