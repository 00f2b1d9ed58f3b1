"""DOCX, by python-docx: paragraphs and tables under their headings."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from docs2texts.blocks import Document, Headings, Span, TextBlock
from docs2texts.document_format import DocumentFormat, register

if TYPE_CHECKING:
    from docx.table import Table

HEADING_STYLE = re.compile(r"(?:heading|überschrift|titre|título|titolo) (\d)", re.IGNORECASE)
MOST_UNPACKED = 40  # times the file: more is a bomb


def parse(document: Document) -> Iterator[TextBlock]:
    """The paragraphs and tables of the body. Raises ValueError for a file that unpacks to more."""
    import docx
    from docx.table import Table

    with zipfile.ZipFile(io.BytesIO(document.content)) as packed:
        unpacked = sum(each.file_size for each in packed.infolist())
        if unpacked > MOST_UNPACKED * len(document.content):
            raise ValueError("it unpacks to too much")
    headings = Headings()
    offset = 0
    for item in docx.Document(io.BytesIO(document.content)).iter_inner_content():
        if isinstance(item, Table):
            text = _table_text(item)
        else:
            text = item.text.strip()
            level = _heading_level(item.style.name if item.style is not None else "")
            if level is not None and text:
                headings.enter(level, " ".join(text.split()))
                offset += len(text) + 2
                continue
        if not text:
            continue
        span = Span(start=offset, end=offset + len(text))
        yield TextBlock(text=text, headings=headings.path, section=headings.section, span=span)
        offset = span.end + 2


def _heading_level(style: str | None) -> int | None:
    """0 of the title, 1 to 9 of headings; None of text."""
    if style == "Title":
        return 0
    match = HEADING_STYLE.match(style or "")
    return int(match[1]) if match else None


def _table_text(table: Table) -> str:
    rows = ([cell.text.strip() for cell in row.cells] for row in table.rows)
    return "\n".join(" | ".join(row) for row in rows if any(row))


register(
    DocumentFormat(name="docx", extensions=(".docx",), parse=parse, is_text=False, extra="docx")
)
