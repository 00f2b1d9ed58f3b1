"""Retrieval quality on held-out examples: each query against all documents of the file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import torch
import xxhash
from torch import Tensor
from torch.nn import functional

from contrast_train.data.dataset import NO_PROMPTS, Prompts
from contrast_train.losses.requirements import Row
from fletching import schema
from fletching.errors import InputError
from fletching.prompts import InstructionTemplate

TILE = 512  # queries whose scores are computed at a time
CUTOFF = 10
BEST_BY = "ndcg_at_10"  # the measure that chooses weights

EmbedTexts = Callable[[list[str], list[str]], tuple[Tensor, Tensor]]  # queries, documents
PromptedText = tuple[str, str]  # prompt, text
COLUMNS: dict[str, pa.DataType] = {
    "query": pa.string(),
    "pos": pa.list_(pa.string()),
    "neg": pa.list_(pa.string()),
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
    """Queries, the corpus (every distinct `pos` and `neg`) and which documents answer which
    query.
    """

    def __init__(
        self, batches: Iterable[pa.RecordBatch], path: str, prompts: EvaluationPrompts
    ) -> None:
        """Read the rows of --eval `path`. Raises InputError where there are none."""
        queries: dict[PromptedText, int] = {}
        documents: dict[PromptedText, int] = {}
        relevant: dict[int, dict[int, None]] = {}
        for row in _rows(batches):
            query_prompt, doc_prompt = prompts.of_row(row)
            query = queries.setdefault((query_prompt, row["query"]), len(queries))
            answers = relevant.setdefault(query, {})
            for text in row["pos"]:
                document = documents.setdefault((doc_prompt, text), len(documents))
                answers[document] = None
            for text in row["neg"] or []:
                documents.setdefault((doc_prompt, text), len(documents))
        if not queries:
            raise InputError(f"--eval {path} holds no rows", "give it held-out examples")
        self.queries = [prompt + text for prompt, text in queries]
        self.documents = [prompt + text for prompt, text in documents]
        self.prompts = [prompt for prompt, _ in [*queries, *documents]]  # in this order
        self.relevant = [list(relevant[query]) for query in range(len(queries))]
        content = json.dumps([self.queries, self.documents, self.relevant])
        self.digest = xxhash.xxh3_128_hexdigest(content.encode())

    def prompted_texts(self) -> list[PromptedText]:
        """(prompt, text) of the queries, then of the documents."""
        prompted = [*self.queries, *self.documents]
        return [(prompt, text[len(prompt) :]) for prompt, text in zip(self.prompts, prompted)]

    def measure(self, embed: EmbedTexts, similarity: str = "cosine") -> dict[str, float]:
        """nDCG@10, MRR@10 and margin, means over the queries. embed: texts with their
        prompts.
        """
        q, d = embed(self.queries, self.documents)
        if similarity == "cosine":
            q, d = functional.normalize(q, dim=1), functional.normalize(d, dim=1)
        ndcgs, reciprocal_ranks, margins = [], [], []
        for start in range(0, len(q), TILE):
            scores = q[start : start + TILE] @ d.T  # (t, N)
            for row, relevant in zip(scores, self.relevant[start : start + TILE]):
                ranks = sorted(ranks_of(row, relevant))
                ndcgs.append(ndcg(ranks))
                reciprocal_ranks.append(1 / ranks[0] if ranks[0] <= CUTOFF else 0.0)
                margins.append(margin(row, relevant))
        return {
            "ndcg_at_10": sum(ndcgs) / len(ndcgs),
            "mrr_at_10": sum(reciprocal_ranks) / len(reciprocal_ranks),
            "margin": sum(margins) / len(margins),
        }


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterable[Row]:
    for batch in batches:
        columns = {name: schema.column(batch, name, kind) for name, kind in COLUMNS.items()}
        yield from pa.RecordBatch.from_pydict(columns).to_pylist()


def ranks_of(scores: Tensor, documents: Sequence[int]) -> list[int]:
    """The rank of each document, from 1, by scores (N,); of equal scores the earlier document
    wins.
    """
    relevant = torch.tensor(documents, device=scores.device)[:, None]  # (r, 1)
    score = scores[relevant]
    position = torch.arange(len(scores), device=scores.device)
    is_ahead = (scores > score) | ((scores == score) & (position < relevant))
    ranks: list[int] = (is_ahead.sum(1) + 1).tolist()
    return ranks


def margin(scores: Tensor, documents: Sequence[int]) -> float:
    """The lowest score of the documents minus the highest other one; 0 where there is no other.

    Below 0 a wrong document is nearer than a right one.
    """
    others = scores.clone()
    others[list(documents)] = -torch.inf
    best_other = others.max()
    if best_other == -torch.inf:
        return 0.0
    return float(scores[list(documents)].min() - best_other)


def ndcg(ranks: Sequence[int], cutoff: int = CUTOFF) -> float:
    """Normalised discounted cumulative gain of binary relevance, from the ranks of all
    relevant documents.

    Järvelin and Kekäläinen 2002: sum 1 / log2(rank + 1), over that of the best possible
    ranking.
    """
    gain = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= cutoff)
    ideal_ranks = range(1, min(len(ranks), cutoff) + 1)
    return gain / sum(1 / math.log2(rank + 1) for rank in ideal_ranks)
