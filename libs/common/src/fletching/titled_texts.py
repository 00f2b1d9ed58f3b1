"""The text of a document as it is encoded and searched: its title before it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema


def titled_texts(batch: pa.RecordBatch) -> pa.StringArray:
    """The title, one blank and the text of each row of `texts`; the text where there is no title.

    >>> batch = pa.record_batch({"title": ["A title", "", None], "text": ["one", "two", "three"]})
    >>> titled_texts(batch).to_pylist()
    ['A title one', 'two', 'three']
    """
    titles = schema.column(batch, "title", pa.string()).cast(pa.string())
    titles = pc.if_else(pc.equal(titles, ""), None, titles)
    return pc.binary_join_element_wise(titles, batch["text"], " ", null_handling="skip")
