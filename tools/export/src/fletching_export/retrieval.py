"""nDCG@10 of two encoders on the same held-out examples, with the interval of the difference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report

Floats = npt.NDArray[np.float64]

DEPTH = 10
RESAMPLES = 2000
BLOCK = 1 << 21  # weights in memory at a time
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class RetrievalTask:
    """Queries, the documents that they search, and the documents that answer each query.

    relevant: indices of documents, by query.
    """

    name: str
    queries: Sequence[str]
    documents: Sequence[str]
    relevant: Sequence[frozenset[int]]


@dataclass(frozen=True, kw_only=True)
class RetrievalChange:
    """Mean nDCG@10 of torch and of the export, and their difference with its 95 % interval."""

    task: str
    queries: int
    torch: float
    exported: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """The export's mean minus torch's."""
        return self.exported - self.torch


def read_task(argument: str, report: Report) -> RetrievalTask:
    """The task of an --examples FILE or NAME=FILE: each query searches all positives.

    Raises InputError for a file without rows.
    """
    name, separator, path = argument.partition("=")
    if not separator:
        name, path = os.path.basename(argument).partition(".")[0], argument
    answers: dict[str, set[int]] = {}
    documents: dict[str, int] = {}
    reader = Reader(report, [path], "examples", count=False)
    for batch in reader:
        rows = zip(batch["query"].to_pylist(), _lists(batch, "pos"))
        for query, positives in rows:
            numbers = {documents.setdefault(text, len(documents)) for text in positives}
            answers.setdefault(query, set()).update(numbers)
    if not answers:
        raise InputError(f"--examples {path} has no rows", "name a file of held-out examples")
    report.note(f"{name}: {len(answers):,} queries search {len(documents):,} documents")
    return RetrievalTask(
        name=name,
        queries=list(answers),
        documents=list(documents),
        relevant=[frozenset(numbers) for numbers in answers.values()],
    )


def _lists(batch: pa.RecordBatch, name: str) -> list[list[str]]:
    lists: list[list[str]] = batch[name].to_pylist()
    return lists


def ndcg(scores: Floats, relevant: Sequence[frozenset[int]]) -> Floats:
    """nDCG@10 of each query with binary relevance; ties in the order of the documents.

    scores: (queries, documents).
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    values = np.zeros(len(scores))
    for number, answers in enumerate(relevant):
        hits = np.isin(order[number], list(answers))
        ideal = discounts[: min(len(answers), DEPTH)].sum()
        values[number] = (discounts[: len(hits)] * hits).sum() / ideal
    return values


def compare(task: RetrievalTask, *, torch: Floats, exported: Floats, seed: int) -> RetrievalChange:
    """The two means, and the percentiles of the paired bootstrap of their difference.

    torch, exported: nDCG@10 by query.
    """
    difference = exported - torch
    count = len(difference)
    generator = np.random.default_rng([seed, count])
    rows = max(BLOCK // count, 1)
    means = []
    for start in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - start)
        weights = generator.multinomial(count, np.full(count, 1 / count), size=size)
        means.append(weights @ difference / count)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(np.concatenate(means), tails)
    return RetrievalChange(
        task=task.name,
        queries=count,
        torch=float(torch.mean()),
        exported=float(exported.mean()),
        low=float(low),
        high=float(high),
    )
