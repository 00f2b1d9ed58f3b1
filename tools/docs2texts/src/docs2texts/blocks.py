"""What a parser yields: blocks of text, each with its headings and its span in the document."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from typing import Literal

Form = Literal["prose", "code", "navigation"]

LINE_END = re.compile("\n")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file as parsers take it.

    source: its path within the folder. content: its bytes, of PDF and DOCX. text: decoded, of all
    other formats, with \\n as line end.
    """

    source: str
    content: bytes = b""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where a text is in its document.

    start, end: characters of the decoded text; of HTML, PDF and DOCX, of the text within. Lines
    count from 1, pages too; None where a format has none.
    """

    start: int
    end: int
    first_line: int | None = None
    last_line: int | None = None
    page: int | None = None


@dataclass(frozen=True, kw_only=True)
class TextBlock:
    """A paragraph, list, table, function: what is taken apart only where it is too long.

    headings: those above it, the outermost first. section: blocks of one number may share a text.
    """

    text: str
    headings: tuple[str, ...]
    section: int
    span: Span
    form: Form = "prose"


class LineIndex:
    """The offsets of the lines of a text, counted from 0."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in LINE_END.finditer(text))]

    def __len__(self) -> int:
        return len(self.starts)

    def line_of(self, offset: int) -> int:
        """The number of the line that holds a character, from 0."""
        return bisect.bisect_right(self.starts, offset) - 1

    def offset(self, line: int) -> int:
        """The first character of a line; the end of the text behind the last one."""
        return self.starts[line] if line < len(self.starts) else len(self.text)

    def span(self, start: int, end: int) -> Span:
        """The span of characters `start` to `end`."""
        return Span(
            start=start,
            end=end,
            first_line=self.line_of(start) + 1,
            last_line=self.line_of(max(end - 1, start)) + 1,
        )

    def lines_span(self, first: int, stop: int) -> Span:
        """The span of lines `first` up to `stop`, from 0, without blanks around them."""
        start, end = self.offset(first), self.offset(stop)
        text = self.text[start:end]
        kept_end = start + len(text.rstrip())
        lead = len(text) - len(text.lstrip())
        start += text.rfind("\n", 0, lead) + 1  # the indentation of the first line stays
        return self.span(min(start, kept_end), kept_end)


class Headings:
    """The headings above the text that is read: a stack by level."""

    def __init__(self, root: tuple[str, ...] = ()) -> None:
        self.root = root
        self.stack: list[tuple[int, str]] = []
        self.section = 0

    def enter(self, level: int, text: str) -> None:
        """A heading; those of its level and deeper end."""
        while self.stack and self.stack[-1][0] >= level:
            self.stack.pop()
        self.stack.append((level, text))
        self.section += 1

    @property
    def path(self) -> tuple[str, ...]:
        """The headings, the outermost first."""
        path = tuple(text for _, text in self.stack if text)
        return path if path[:1] == self.root else (*self.root, *path)


def is_first_level(headings: list[tuple[int, str]]) -> bool:
    """Does a document have exactly one heading of its highest level, before all others?"""
    if not headings:
        return False
    highest = min(level for level, _ in headings)
    return headings[0][0] == highest and sum(level == highest for level, _ in headings) == 1
