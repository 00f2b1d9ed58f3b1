"""Rows arranged as the collator does it in one process."""

from __future__ import annotations

from collections.abc import Sequence

from contrast_train.data import pairing
from contrast_train.data.dataset import TrainingExample
from contrast_train.data.pairing import ArrangedBatch
from contrast_train.data.rank_exchange import RankExchange


def arrange(
    rows: Sequence[TrainingExample], query_prompt: str, doc_prompt: str = ""
) -> ArrangedBatch:
    """Queries and documents are (prompt, text)."""
    identify = RankExchange().identify
    return pairing.arrange(
        [
            pairing.outline(row, pairing.texts_of(row, query_prompt, doc_prompt), identify)
            for row in rows
        ]
    )
