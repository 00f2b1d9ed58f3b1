"""PDF, by pypdf: the paragraphs of each page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from docs2texts.blocks import Document, Span, TextBlock
from docs2texts.document_format import DocumentFormat, register

PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")


def parse(document: Document) -> Iterator[TextBlock]:
    """The paragraphs of all pages. A page is a section: what hangs over is not joined."""
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(document.content))
    title = str((reader.metadata and reader.metadata.title) or "").strip()
    headings = (" ".join(title.split()),) if title else ()
    offset = 0
    for number, page in enumerate(reader.pages, 1):
        for paragraph in PARAGRAPH_END.split(page.extract_text()):
            text = paragraph.strip().replace("\x00", "")
            text = text.encode("utf-8", "replace").decode()  # half a surrogate pair
            if text:
                span = Span(start=offset, end=offset + len(text), page=number)
                yield TextBlock(text=text, headings=headings, section=number, span=span)
                offset = span.end + 2


register(DocumentFormat(name="pdf", extensions=(".pdf",), parse=parse, is_text=False, extra="pdf"))
