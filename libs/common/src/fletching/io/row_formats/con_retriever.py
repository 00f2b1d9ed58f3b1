"""ConRetriever's JSON lines: `query, positive: [text], negative: [text], instruction`.

One file a task. Its trainer puts the instruction and a line end before the query.
"""

from __future__ import annotations

import pyarrow as pa

from fletching.io.row_formats.column_types import is_text, is_text_list
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.writing import write_renamed

NAMES = {"query": "query", "pos": "positive", "neg": "negative", "prompt": "instruction"}


def _detect(columns: pa.Schema) -> bool:
    return is_text(columns, "query") and is_text_list(columns, "positive")


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    return write_renamed(batches, path, NAMES)


register(
    RowFormat(
        name="con-retriever",
        summary="ConRetriever, E5-Retrieval-Reproduction",
        columns="query, positive: [text], negative: [text], instruction",
        becomes="`pos`, `neg` and `prompt`",
        detect=_detect,
        from_examples=_from_examples,
    )
)
