"""The queries of a text, and the text without any of them: its one positive.

One text has one positive, whatever its queries: what is searched holds it once, and no query
stands verbatim in a copy of its answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fletching.text import normalise
from texts2pairs import code, prose
from texts2pairs.options import Kind, Options

PROSE = ("", "docx", "html", "markdown", "pdf", "rst", "text")
CODE_KIND: Kind = "docstring"


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """What is needed of a row of `texts`. source: "" without that column."""

    id: str
    text: str
    title: str
    source: str
    format: str
    domain: str | None

    @property
    def document(self) -> str:
        """What is split as one: the source, else the text itself."""
        return self.source or self.id

    @property
    def section(self) -> str:
        """What a title belongs to: texts of one title in one document."""
        return f"{self.document}\n{self.title}"


@dataclass(frozen=True, kw_only=True)
class TextQueries:
    """titles: forms of one title, the shortest first, which all texts of the section answer.

    sentences: (kind, query) of this text alone, first words among them. positive: the text without
    all of them.
    """

    titles: Sequence[str]
    sentences: Sequence[tuple[Kind, str]]
    positive: str

    @property
    def title_kind(self) -> Kind:
        """`heading` where there are headings above it."""
        return "heading" if len(self.titles) > 1 else "title"


def queries_of(row: TextRow, options: Options) -> TextQueries:
    """The queries of a text."""
    if row.format not in PROSE:
        return _of_code(row, options)
    text = prose.without_title(row.text, row.title)
    titles = _titles(row, options)
    sentences = _sentences(row, prose.sentences_of(text), options)
    taken = _take(text, sentences, options)
    has_title = any(len(title.split()) >= options.min_words for title in titles)
    if not taken and not has_title:
        beginning = _first_words(row, text, options)
        taken = _take(text, beginning, options)
    return TextQueries(
        titles=titles,
        sentences=[(kind, sentence.text) for kind, sentence in taken],
        positive=_cut(text, [sentence for _, sentence in taken]),
    )


def _take(
    text: str, candidates: Iterable[tuple[Kind, prose.Sentence]], options: Options
) -> list[tuple[Kind, prose.Sentence]]:
    """Those that can be taken out of the text: enough is left, and it does not repeat them."""
    taken: list[tuple[Kind, prose.Sentence]] = []
    for kind, sentence in candidates:
        removed = [each for _, each in taken]
        left = _cut(text, [*removed, sentence])
        is_enough = len(left.split()) >= options.min_left
        if is_enough and not _leaks(sentence.text, left):
            taken.append((kind, sentence))
    return taken


def _titles(row: TextRow, options: Options) -> list[str]:
    titles = prose.title_queries(row.title)
    kind = "heading" if len(titles) > 1 else "title"
    return titles if kind in options.kinds else []


def _sentences(
    row: TextRow, sentences: list[prose.Sentence], options: Options
) -> Iterator[tuple[Kind, prose.Sentence]]:
    first = None
    if "first-sentence" in options.kinds:
        first = prose.first_sentence(sentences)
        if first is not None:
            yield "first-sentence", first
    if "cloze" in options.kinds:
        cloze = prose.cloze_sentence(
            sentences, seed=options.seed, key=row.id, has_other=first is not None
        )
        if cloze is not None:
            yield "cloze", cloze


def _first_words(
    row: TextRow, text: str, options: Options
) -> Iterator[tuple[Kind, prose.Sentence]]:
    """The query of a text that has neither a title nor a sentence for one."""
    beginning = prose.first_words(text, seed=options.seed, key=row.id)
    if beginning is not None and "first-words" in options.kinds:
        yield "first-words", beginning


def _of_code(row: TextRow, options: Options) -> TextQueries:
    """The docstring or comment of code, and the code without it."""
    whole = TextQueries(titles=(), sentences=(), positive=row.text)
    if CODE_KIND not in options.kinds:
        return whole
    parts = code.split_python(row.text) if row.format == "python" else None
    parts = parts or code.split_comment(row.text)
    if parts is None:
        return whole
    comment, rest = parts
    query = code.summary(comment)
    if not query or len(rest.split()) < options.min_left:
        return whole
    return TextQueries(titles=(), sentences=((CODE_KIND, query),), positive=rest)


def _cut(text: str, removed: Sequence[prose.Sentence]) -> str:
    """The text without these sentences."""
    parts = []
    start = 0
    for sentence in sorted(removed, key=lambda each: each.start):
        parts.append(text[start : sentence.start])
        start = sentence.end
    return "".join([*parts, text[start:]]).strip("\n").rstrip()


def _leaks(query: str, text: str) -> bool:
    """Does a query stand in the text once more?"""
    return normalise(query) in normalise(text)
