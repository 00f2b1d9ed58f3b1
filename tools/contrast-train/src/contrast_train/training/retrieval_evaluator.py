"""Retrieval quality on held-out examples: each query against all documents of the file, and of a
corpus where there is one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import torch
import xxhash
from torch import Tensor
from torch.nn import functional

from contrast_train.data.dataset import NO_PROMPTS, Prompts
from contrast_train.losses.requirements import Row
from contrast_train.training.evaluation_corpus import EvaluationCorpus
from fletching import schema
from fletching.errors import InputError
from fletching.prompts import InstructionTemplate
from fletching.protocols import Role

TILE = 512  # queries whose scores are computed at a time
CUTOFF = 10
BEST_BY = "ndcg_at_10"  # the measure that chooses weights

PromptedText = tuple[str, str]  # prompt, text
EmbedTexts = Callable[[list[PromptedText], Role], Tensor]  # n texts -> vectors (n, D)
COLUMNS: dict[str, pa.DataType] = {
    "query": pa.string(),
    "pos": pa.list_(pa.string()),
    "neg": pa.list_(pa.string()),
    "pos_ids": pa.list_(pa.string()),
    "neg_ids": pa.list_(pa.string()),
    "prompt": pa.string(),
    "task": pa.string(),
}


@dataclass(frozen=True, kw_only=True)
class EvaluationPrompts:
    """What goes before the texts of a row.

    query, document: the model's or the options'. of_task: those of a task. template: what
    completes a row's own query prompt.
    """

    query: str = ""
    document: str = ""
    of_task: Mapping[str, Prompts] = field(default_factory=dict)
    template: InstructionTemplate = field(default_factory=InstructionTemplate)

    def of_row(self, row: Row) -> tuple[str, str]:
        """(before the query, before the documents): the row's own, else its task's, else the
        model's.
        """
        task_query, task_document = self.of_task.get(row["task"] or "", NO_PROMPTS)
        query = self.query if task_query is None else task_query
        document = self.document if task_document is None else task_document
        if row["prompt"] is not None:
            query = self.template.complete(row["prompt"])
        return query, document


class RetrievalEvaluator:
    """Queries, their documents (every distinct `pos` and `neg`) and which of them answer which
    query.

    A query that is a document too is not ranked among its own documents: finding oneself is
    neither success nor failure. copies: the numbers of those documents, for each query.
    ids: of the documents. corpus: more texts to rank the queries in; none of them is an answer.
    """

    def __init__(
        self, batches: Iterable[pa.RecordBatch], path: str, prompts: EvaluationPrompts
    ) -> None:
        """Read the rows of --eval `path`. Raises InputError where there are none."""
        queries: dict[PromptedText, int] = {}
        documents: dict[PromptedText, int] = {}
        relevant: dict[int, dict[int, None]] = {}
        self.ids: set[str] = set()
        self.corpus: EvaluationCorpus | None = None
        for row in _rows(batches):
            query_prompt, doc_prompt = prompts.of_row(row)
            query = queries.setdefault((query_prompt, row["query"]), len(queries))
            answers = relevant.setdefault(query, {})
            for text in row["pos"]:
                document = documents.setdefault((doc_prompt, text), len(documents))
                answers[document] = None
            for text in row["neg"] or []:
                documents.setdefault((doc_prompt, text), len(documents))
            self.ids |= {*(row["pos_ids"] or ()), *(row["neg_ids"] or ())} - {None}
        if not queries:
            raise InputError(f"--eval {path} holds no rows", "give it held-out examples")
        self.queries = list(queries)
        self.documents = list(documents)
        self.relevant = [list(relevant[query]) for query in range(len(queries))]
        numbers = self._numbers_by_text()
        self.copies = [
            [number for number in numbers.get(text, ()) if number not in relevant[query]]
            for query, (_, text) in enumerate(self.queries)
        ]
        content = json.dumps([*map(_join, (queries, documents)), self.relevant])
        self.digest = xxhash.xxh3_128_hexdigest(content.encode())

    def _numbers_by_text(self) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for number, (_, text) in enumerate(self.documents):
            numbers.setdefault(text, []).append(number)
        return numbers

    def measure(self, embed: EmbedTexts, similarity: str = "cosine") -> dict[str, float]:
        """nDCG@10, MRR@10 and margin, means over the queries. embed: texts with their
        prompts.
        """

        def _vectors(texts: list[PromptedText], role: Role) -> Tensor:
            vectors = embed(texts, role)
            return functional.normalize(vectors, dim=1) if similarity == "cosine" else vectors

        q = _vectors(self.queries, "query")
        standings: list[Standing] = []
        for scores in _score_rows(q, _vectors(self.documents, "document")):
            query = len(standings)
            scores[self.copies[query]] = -torch.inf
            standings.append(Standing.among(scores, self.relevant[query]))
        for chunk in self.corpus.chunks() if self.corpus else ():
            number_of = {text: number for number, (_, text) in enumerate(chunk)}
            score_rows = _score_rows(q, _vectors(chunk, "document"))
            for (_, query_text), standing, scores in zip(self.queries, standings, score_rows):
                if query_text in number_of:
                    scores[number_of[query_text]] = -torch.inf
                standing.add(scores)
        ranks = [standing.ranks.tolist() for standing in standings]
        count = len(standings)
        return {
            "ndcg_at_10": sum(map(ndcg, ranks)) / count,
            "mrr_at_10": sum(map(reciprocal_rank, ranks)) / count,
            "margin": sum(standing.margin for standing in standings) / count,
        }


@dataclass
class Standing:
    """Where the relevant documents of one query are among the documents seen so far.

    scores, ranks (r,): of the relevant documents; ranks from 1. best_other: the highest score of
    another document, -inf where there is none.
    """

    scores: Tensor
    ranks: Tensor
    best_other: float

    @classmethod
    def among(cls, scores: Tensor, relevant: Sequence[int]) -> Standing:
        """Among the documents of scores (N,), of which `relevant` answer the query.

        Of equal scores the earlier document wins.
        """
        numbers = torch.tensor(relevant, device=scores.device)
        position = torch.arange(len(scores), device=scores.device)
        score = scores[numbers][:, None]  # (r, 1)
        is_ahead = (scores > score) | ((scores == score) & (position < numbers[:, None]))
        others = scores.clone()
        others[numbers] = -torch.inf
        return cls(scores[numbers], is_ahead.sum(1) + 1, float(others.max()))

    def add(self, scores: Tensor) -> None:
        """Add documents of scores (C,) that do not answer the query, after those so far."""
        self.ranks += (scores > self.scores[:, None]).sum(1)
        self.best_other = max(self.best_other, float(scores.max()))

    @property
    def margin(self) -> float:
        """The lowest score of a relevant document minus the highest other one; 0 where there is
        no other. Below 0 a wrong document is nearer than a right one.
        """
        if self.best_other == -torch.inf:
            return 0.0
        return float(self.scores.min()) - self.best_other


def _score_rows(queries: Tensor, documents: Tensor) -> Iterator[Tensor]:
    """The scores (N,) of all documents for one query after the other."""
    for start in range(0, len(queries), TILE):
        yield from queries[start : start + TILE] @ documents.T  # (t, N)


def _join(texts: Iterable[PromptedText]) -> list[str]:
    return [prompt + text for prompt, text in texts]


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterable[Row]:
    for batch in batches:
        columns = {name: schema.column(batch, name, kind) for name, kind in COLUMNS.items()}
        yield from pa.RecordBatch.from_pydict(columns).to_pylist()


def reciprocal_rank(ranks: Sequence[int], cutoff: int = CUTOFF) -> float:
    """1 / the rank of the first relevant document; 0 beyond the cutoff."""
    return 1 / min(ranks) if min(ranks) <= cutoff else 0.0


def ndcg(ranks: Sequence[int], cutoff: int = CUTOFF) -> float:
    """Normalised discounted cumulative gain of binary relevance, from the ranks of all
    relevant documents.

    Järvelin and Kekäläinen 2002: sum 1 / log2(rank + 1), over that of the best possible
    ranking.
    """
    gain = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= cutoff)
    ideal_ranks = range(1, min(len(ranks), cutoff) + 1)
    return gain / sum(1 / math.log2(rank + 1) for rank in ideal_ranks)
