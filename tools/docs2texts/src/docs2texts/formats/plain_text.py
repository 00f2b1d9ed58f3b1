"""Plain text: paragraphs between blank lines, in one section."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs2texts.blocks import Document, LineIndex, TextBlock
from docs2texts.document_format import DocumentFormat, register

PARAGRAPH = re.compile(r"\S(?:.|\n(?![^\S\n]*\n))*")


def parse(document: Document) -> Iterator[TextBlock]:
    """The paragraphs of a text."""
    lines = LineIndex(document.text)
    for match in PARAGRAPH.finditer(document.text):
        text = match[0].rstrip()
        span = lines.span(match.start(), match.start() + len(text))
        yield TextBlock(text=text, headings=(), section=0, span=span)


register(DocumentFormat(name="text", extensions=(".txt", ".text"), parse=parse))
