"""Source code of other languages: blocks that begin at the margin after a blank line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from docs2texts.blocks import Document, LineIndex, TextBlock
from docs2texts.document_format import DocumentFormat, register

# After a blank line, a line without indentation that opens something.
BLOCK_START = re.compile(r"(?<=\n\n)(?=[^\s)}\]])")
BLANK_LINES = re.compile(r"\n[^\S\n]+(?=\n)")
LANGUAGES: dict[str, tuple[str, ...]] = {
    "bash": (".sh", ".bash"),
    "c": (".c", ".h"),
    "cpp": (".cc", ".cpp", ".cxx", ".hh", ".hpp"),
    "csharp": (".cs",),
    "go": (".go",),
    "java": (".java",),
    "javascript": (".js", ".jsx", ".mjs", ".cjs"),
    "julia": (".jl",),
    "kotlin": (".kt",),
    "lua": (".lua",),
    "other-source": (),  # of a parser that refuses a file
    "perl": (".pl", ".pm"),
    "php": (".php",),
    "r": (".r",),
    "ruby": (".rb",),
    "rust": (".rs",),
    "scala": (".scala",),
    "sql": (".sql",),
    "swift": (".swift",),
    "typescript": (".ts", ".tsx"),
}


def parse(document: Document) -> Iterator[TextBlock]:
    """The blocks of a source file, under its path; each is a section."""
    text = document.text
    lines = LineIndex(text)
    starts = [0, *_starts(text), len(text)]
    for number, (start, stop) in enumerate(itertools.pairwise(starts)):
        span = lines.lines_span(lines.line_of(start), lines.line_of(stop) + (stop == len(text)))
        block = text[span.start : span.end]
        if block.strip():
            yield TextBlock(
                text=block, headings=(document.source,), section=number, span=span, form="code"
            )


def _starts(text: str) -> Iterator[int]:
    """Where blocks begin, behind the first one."""
    blanked = BLANK_LINES.sub(lambda match: "\n" * len(match[0]), text)
    for match in BLOCK_START.finditer(blanked):
        yield match.start()


for language, endings in LANGUAGES.items():
    register(DocumentFormat(name=language, extensions=endings, parse=parse, is_code=True))
