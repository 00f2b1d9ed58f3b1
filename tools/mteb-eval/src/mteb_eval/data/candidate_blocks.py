"""CodeSearchNet's protocol on `examples`: each query ranks the candidates of its block alone.

Husain et al. (2019): one positive among N - 1 distractors; the metric is the mean reciprocal rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report
from fletching.seeded_random import permuted
from mteb_eval.data.collection import RetrievalCollection


def read_in_blocks(
    report: Report,
    name: str,
    inputs: Sequence[str],
    *,
    size: int,
    seed: int,
    reverse: bool = False,
    limit: int | None = None,
) -> RetrievalCollection:
    """The rows shuffled and cut into blocks of `size`; a query ranks the positives of its block.

    Of each row the first positive counts. Equal texts remain separate documents; rows beyond the
    last whole block are left out. Raises InputError where there are fewer rows than `size`.
    """
    rows = _read_rows(report, inputs, limit)
    if len(rows) < size:
        raise InputError(
            f"{name} holds {len(rows):,} rows, fewer than --mrr-candidates {size}",
            f"pass --mrr-candidates {len(rows)} or fewer",
        )
    used = len(rows) // size * size
    order = list(permuted(seed, name, len(rows)))[:used]
    if len(rows) > used:
        report.note(
            f"{name}: {len(rows) - used:,} rows beyond the last block of {size:,} are left out"
        )
    queries = {row: rows[row]["query"] for row in order}
    answers = {row: rows[row]["pos"][0] for row in order}
    if reverse:
        queries, answers = answers, queries
    return RetrievalCollection(
        name=f"{name}-{size}",
        split="test",
        queries={f"q{row}": text for row, text in queries.items()},
        documents={f"d{row}": text for row, text in answers.items()},
        relevant={f"q{row}": {f"d{row}": 1} for row in order},
        candidates=_candidates(order, size),
        is_reversed=reverse,
    )


def _read_rows(report: Report, inputs: Sequence[str], limit: int | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in Reader(report, inputs, "examples", limit=limit):
        rows += batch.select(["query", "pos"]).to_pylist()
    return rows


def _candidates(order: Sequence[int], size: int) -> dict[str, list[str]]:
    """The documents of its own block for each query."""
    candidates: dict[str, list[str]] = {}
    for start in range(0, len(order), size):
        block = order[start : start + size]
        documents = [f"d{row}" for row in block]
        candidates |= {f"q{row}": documents for row in block}
    return candidates
