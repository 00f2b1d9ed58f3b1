"""The blocks of all documents on disk, until it is known which of them are boilerplate."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import get_args

import pyarrow as pa

from docs2texts.blocks import Form, Span, TextBlock
from docs2texts.reading import ReadDocument
from fletching.table import DiskTable

COLUMNS = pa.schema(
    [
        ("text", pa.large_string()),
        ("headings", pa.list_(pa.string())),
        ("section", pa.int64()),
        ("form", pa.int8()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("first_line", pa.int64()),
        ("last_line", pa.int64()),
        ("page", pa.int64()),
    ]
)
FORMS: tuple[Form, ...] = get_args(Form)


class BlockStore:
    """Append documents, then read them in their order, one at a time in memory.

    names: (source, format) of each document.
    """

    def __init__(self) -> None:
        self.table = DiskTable(COLUMNS)
        self.names: list[tuple[str, str]] = []

    def append(self, document: ReadDocument) -> None:
        """Add the blocks of a document."""
        rows = [_row(block) for block in document.blocks]
        self.table.append(pa.RecordBatch.from_pylist(rows, COLUMNS))
        self.names.append((document.source, document.format))

    def documents(self) -> Iterator[ReadDocument]:
        """All documents."""
        for (source, name), batch in zip(self.names, self.table.finish()):
            blocks = [_block(row) for row in batch.to_pylist()]
            yield ReadDocument(source=source, format=name, blocks=blocks)

    def __enter__(self) -> BlockStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.table.close()


def _row(block: TextBlock) -> dict[str, object]:
    return {
        "text": block.text,
        "headings": block.headings,
        "section": block.section,
        "form": FORMS.index(block.form),
        **vars(block.span),
    }


def _block(row: dict[str, object]) -> TextBlock:
    names = ("start", "end", "first_line", "last_line", "page")
    span = Span(**{name: row[name] for name in names})  # type: ignore[arg-type]
    return TextBlock(
        text=str(row["text"]),
        headings=tuple(row["headings"]),  # type: ignore[arg-type]
        section=row["section"],  # type: ignore[arg-type]
        span=span,
        form=FORMS[row["form"]],  # type: ignore[call-overload]
    )
