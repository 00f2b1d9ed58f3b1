"""Blocks of a section to texts of at most so many tokens, cut between sentences or lines."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from docs2texts.blocks import Span, TextBlock
from docs2texts.tokens import TokenCounter
from fletching.sentences import sentence_spans

TITLE_SEPARATOR = " > "
MOST_TITLE = 0.5  # of the tokens of a text: a longer title is left to be cut by the encoder
EVEN = 1.15  # times the even share of a section: the last text is not a remainder
LINE = re.compile(r"[^\n]*\n?")
WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One text with its title and its span in the document."""

    title: str
    text: str
    span: Span


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Characters `start` to `end` of a block, which are not taken apart.

    lines_before: line ends of the block before `start`.
    """

    block: TextBlock
    start: int
    end: int
    tokens: int
    lines_before: int = 0


class Chunker:
    """Cuts the blocks of a document. Titles count; a word longer than a text is cut anywhere."""

    def __init__(self, count: TokenCounter, *, max_tokens: int, overlap: int) -> None:
        self.count = count
        self.max_tokens = max_tokens
        self.overlap = overlap

    def chunks(self, blocks: Sequence[TextBlock]) -> Iterator[Chunk]:
        """The texts of a document, section by section."""
        by_section = itertools.groupby(blocks, key=lambda block: (block.section, block.headings))
        for (_, headings), section in by_section:
            title = TITLE_SEPARATOR.join(headings)
            taken = min(self.count(title) if title else 0, int(self.max_tokens * MOST_TITLE))
            most = self.max_tokens - taken
            pieces = [piece for block in section for piece in self._numbered(block, most)]
            for group in self._groups(pieces, most):
                chunk = _chunk(title, group)
                if chunk.text:
                    yield chunk

    def _numbered(self, block: TextBlock, most: int) -> Iterator[Piece]:
        """The pieces of a block with their lines, counted once: a block may be megabytes."""
        counted = lines = 0
        for piece in self._pieces(block, most):
            lines += block.text.count("\n", counted, piece.start)
            counted = piece.start
            yield replace(piece, lines_before=lines)

    def _pieces(self, block: TextBlock, most: int) -> Iterator[Piece]:
        """The whole block, or its sentences or lines; of those that are too long, the words."""
        tokens = self.count(block.text)
        if tokens <= most and not self.overlap:
            yield Piece(block=block, start=0, end=len(block.text), tokens=tokens)
            return
        spans = _lines(block.text) if block.form == "code" else sentence_spans(block.text)
        for start, end in spans:
            tokens = self.count(block.text[start:end])
            if tokens <= most:
                yield Piece(block=block, start=start, end=end, tokens=tokens)
            else:
                yield from self._words(block, start, end=end, most=most)

    def _words(self, block: TextBlock, start: int, *, end: int, most: int) -> Iterator[Piece]:
        for match in WORD.finditer(block.text, start, end):
            tokens = self.count(match[0])
            step = len(match[0]) if tokens <= most else most  # a character is a token at most
            for cut in range(match.start(), match.end(), step):
                stop = min(cut + step, match.end())
                tokens = self.count(block.text[cut:stop])
                yield Piece(block=block, start=cut, end=stop, tokens=min(tokens, most))

    def _groups(self, pieces: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
        """Pieces that make one text each; with an overlap, the last ones of the text before."""
        total = sum(piece.tokens for piece in pieces)
        count = -(-total // most)
        limit = most if count <= 1 else min(most, int(total / count * EVEN) + 1)
        group: list[Piece] = []
        size = 0
        for piece in pieces:
            if group and size + piece.tokens > limit:
                yield group
                group = self._repeated(group, most - piece.tokens)
                size = sum(each.tokens for each in group)
            group.append(piece)
            size += piece.tokens
        if group:
            yield group

    def _repeated(self, group: Sequence[Piece], room_left: int) -> list[Piece]:
        """The last pieces of a text that the next one begins with; never all of them."""
        repeated: list[Piece] = []
        size = 0
        for piece in reversed(group[1:]):
            size += piece.tokens
            if size > min(self.overlap, room_left):
                break
            repeated.insert(0, piece)
        return repeated


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """The lines of a text as (start, end), their ends included."""
    for match in LINE.finditer(text):
        if match[0]:
            yield match.span()


def _chunk(title: str, pieces: Sequence[Piece]) -> Chunk:
    """The text of pieces, blocks apart by a blank line."""
    parts = []
    for _, group in itertools.groupby(pieces, key=lambda piece: id(piece.block)):
        of_block = list(group)
        text = of_block[0].block.text[of_block[0].start : of_block[-1].end]
        parts.append(text.strip("\n").rstrip())
    return Chunk(title=title, text="\n\n".join(filter(None, parts)), span=_span(pieces))


def _span(pieces: Sequence[Piece]) -> Span:
    """From the first piece to the last one; exact where a block's text is that of the document."""
    first, last = pieces[0], pieces[-1]
    start, _, first_line, _ = _bounds(first)
    _, end, _, last_line = _bounds(last)
    return Span(
        start=start,
        end=max(end, start),
        first_line=first_line,
        last_line=last_line,
        page=first.block.span.page,
    )


def _bounds(piece: Piece) -> tuple[int, int, int | None, int | None]:
    """(start, end, first line, last line) in the document."""
    span, text = piece.block.span, piece.block.text
    if span.end - span.start != len(text):  # its text lost marks
        return span.start, span.end, span.first_line, span.last_line
    kept = text[piece.start : piece.end].rstrip()
    start = span.start + piece.start
    end = start + len(kept)
    if span.first_line is None:
        return start, end, None, None
    first_line = span.first_line + piece.lines_before
    return start, end, first_line, first_line + kept.count("\n")
