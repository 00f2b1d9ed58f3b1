"""FlagEmbedding's JSON lines: `query, pos, neg, pos_scores, neg_scores, prompt, type`.

The names are ours. The scores are a teacher's, of unnamed kind; `type` (`normal`,
`symmetric_sts` …) passes through.
"""

from __future__ import annotations

import pyarrow as pa

from fletching.io.row_formats.column_types import is_text, is_text_list
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import write_renamed

NAMES = ("query", "pos", "neg", "pos_scores", "neg_scores", "prompt", "type")


def _detect(columns: pa.Schema) -> bool:
    return is_text(columns, "query") and is_text_list(columns, "pos")


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    return write_renamed(batches, path, {name: name for name in NAMES})


register(
    RowFormat(
        name="flag-embedding",
        summary="FlagEmbedding",
        columns="query, pos: [text], neg: [text], pos_scores, neg_scores: [number], prompt, type",
        becomes="the columns of the same names; scores of a teacher, of unnamed kind",
        detect=_detect,
        from_examples=_from_examples,
    )
)
