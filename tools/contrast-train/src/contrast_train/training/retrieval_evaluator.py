"""Retrieval quality on held-out examples: each query against all documents of the file."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from fletching import schema
from fletching.errors import InputError

TILE = 512
BEST_BY = "ndcg_at_10"  # the measure that chooses weights


class HeldOut:
    """Queries, the corpus (every distinct `pos` and `neg`) and which documents answer which query."""

    def __init__(
        self,
        batches: Iterable[pa.RecordBatch],
        query_prompt: str,
        where: str,
        doc_prompt: str = "",
        of_task: Mapping[str, tuple[str | None, str | None]] = {},
        template: str | None = None,
    ) -> None:
        """of_task: query and document prompt of each task that has them; template: what a row's own prompt is put into."""
        queries: dict[tuple[str, str], int] = {}  # prompt, text
        documents: dict[tuple[str, str], int] = {}
        relevant: dict[int, dict[int, None]] = defaultdict(dict)
        for batch in batches:
            prompts, names = (
                schema.column(batch, name, pa.string()).to_pylist() for name in ("prompt", "task")
            )
            negatives = schema.column(batch, "neg", pa.list_(pa.string())).to_pylist()
            texts, answers = batch["query"].to_pylist(), batch["pos"].to_pylist()
            for prompt, name, text, positives, others in zip(
                prompts, names, texts, answers, negatives
            ):
                before_query, before_document = (
                    own if given is None else given
                    for own, given in zip(
                        (query_prompt, doc_prompt), of_task.get(name or "", (None, None))
                    )
                )
                if prompt is not None:
                    before_query = template.replace("{}", prompt) if template else prompt
                query = queries.setdefault((before_query, text), len(queries))
                for document in positives:
                    relevant[query][
                        documents.setdefault((before_document, document), len(documents))
                    ] = None
                for document in others or []:
                    documents.setdefault((before_document, document), len(documents))
        if not queries:
            raise InputError(f"--eval {where} holds no rows", "give it held-out examples")
        self.queries, self.documents = (
            [prompt + text for prompt, text in texts] for texts in (queries, documents)
        )
        self.prompts = [
            prompt for prompt, _ in [*queries, *documents]
        ]  # of the queries, then of the documents
        self.relevant = [list(relevant[query]) for query in range(len(queries))]

    def measure(
        self,
        embed: Callable[[list[str], list[str]], tuple[Tensor, Tensor]],
        similarity: str = "cosine",
    ) -> dict[str, float]:
        """nDCG@10, MRR@10 and margin, means over the queries. embed: (queries, documents), with prompts -> their vectors."""
        q, d = embed(self.queries, self.documents)
        if similarity == "cosine":
            q, d = functional.normalize(q, dim=1), functional.normalize(d, dim=1)
        found: list[list[int]] = []
        margins: list[float] = []
        for start in range(0, len(q), TILE):
            scores = q[start : start + TILE] @ d.T  # (t, N)
            for row, documents in zip(scores, self.relevant[start : start + TILE]):
                found.append(sorted(ranks(row, documents)))
                margins.append(margin(row, documents))
        return {
            "ndcg_at_10": sum(map(ndcg, found)) / len(found),
            "mrr_at_10": sum(1 / hits[0] if hits[0] <= 10 else 0.0 for hits in found) / len(found),
            "margin": sum(margins) / len(margins),
        }


def ranks(scores: Tensor, documents: Sequence[int]) -> list[int]:
    """The rank of each document, from 1; of equal scores the earlier document stands first."""
    chosen = torch.tensor(documents, device=scores.device)
    own = scores[chosen][:, None]  # (r, 1)
    place = torch.arange(len(scores), device=scores.device)
    before = (scores > own) | ((scores == own) & (place < chosen[:, None]))
    return (before.sum(1) + 1).tolist()


def margin(scores: Tensor, documents: Sequence[int]) -> float:
    """How far the lowest of the documents stands above the highest other one; below 0: a wrong one
    is nearer. 0 where there is no other."""
    others = scores.clone()
    others[list(documents)] = -torch.inf
    best = others.max()
    return float(scores[list(documents)].min() - best) if best > -torch.inf else 0.0


def ndcg(hits: Sequence[int], cut: int = 10) -> float:
    """Binary relevance; hits: the ranks of all relevant documents."""
    gain = sum(1 / math.log2(rank + 1) for rank in hits if rank <= cut)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(len(hits), cut) + 1))
