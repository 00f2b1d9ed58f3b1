"""Queries of prose: titles, sentences and first words, and the text without them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fletching import seeded_random
from fletching.sentences import sentence_spans

TITLE_SEPARATOR = " > "
WORD = re.compile(r"\w+")
BETWEEN_BLANKS = re.compile(r"\S+")
FEWEST_WORDS = 4  # of a sentence or the first words
MOST_FIRST = 12  # first words: about as many as people's queries have
FIRST_SHARE = 3  # first words are a third of their text at most
FEWEST_LETTERS = 0.6  # of the characters of a sentence: below are tables and code
FEWEST_LETTERS_OF_TEXT = 0.9  # of a text without sentences
MOST_SENTENCE = 64  # words: longer ones are lists without marks
SENTENCE = re.compile(r"[\"'“‘(«]*\w.*[.!?…؟।。！？][\"'”’)\]»」』]*")
MARKUP = re.compile(r"\s*(#{1,6}|[-*+>]|\d+[.)])\s|.*(```|~~~|\|)", re.DOTALL)
LAYOUT = re.compile(r"\S[ \t]{2,}\S|\n[ \t]+\S|\t")  # of code and tables
ENOUGH_SENTENCES = (3, 4)  # of a text, for a first query of a sentence and for a second


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence of a text: characters `start` to `end`, blanks behind it among them.

    text: on one line. has_layout: is it laid out as code and tables are?
    """

    text: str
    start: int
    end: int
    has_layout: bool

    @property
    def is_prose(self) -> bool:
        """Is it in words, as neither code nor tables are?"""
        return _letters(self.text) >= FEWEST_LETTERS * len(self.text) and not self.has_layout

    @property
    def is_query(self) -> bool:
        """Does it read as a sentence?"""
        is_sentence = SENTENCE.fullmatch(self.text) is not None
        words = len(WORD.findall(self.text))
        return FEWEST_WORDS <= words <= MOST_SENTENCE and self.is_prose and is_sentence


def _letters(text: str) -> int:
    """Letters and blanks."""
    return sum(letter.isalpha() or letter.isspace() for letter in text)


def sentences_of(text: str) -> list[Sentence]:
    """The sentences of a text."""
    return [_sentence(text, start, end) for start, end in sentence_spans(text)]


def _sentence(text: str, start: int, end: int) -> Sentence:
    raw = text[start:end].strip()
    line = " ".join(raw.split())
    return Sentence(text=line, start=start, end=end, has_layout=LAYOUT.search(raw) is not None)


def without_title(text: str, title: str) -> str:
    """The text, of which a title at its beginning is removed.

    >>> without_title("Wing theory . We study wings.", "wing theory")
    'We study wings.'
    """
    name = title.rpartition(TITLE_SEPARATOR)[2].strip().rstrip(".").strip()
    if not name or text[: len(name)].casefold() != name.casefold():
        return text
    rest = text[len(name) :]
    if rest[:1].isalnum():
        return text
    return rest.lstrip(" \t\r\n.:;,-–—#")


def title_queries(title: str) -> list[str]:
    """Queries of a path of headings: the last one alone, then with those above it.

    >>> title_queries("Guide > Install > From source")
    ['From source', 'Install From source', 'Guide Install From source']
    """
    queries: list[str] = []
    query = ""
    for part in reversed(title.split(TITLE_SEPARATOR)):
        if part.strip():
            query = f"{part.strip()} {query}".strip()
            queries.append(query)
    return queries


def first_sentence(sentences: list[Sentence]) -> Sentence | None:
    """The first sentence, where enough follows it."""
    if sum(each.is_query for each in sentences) < ENOUGH_SENTENCES[0]:
        return None
    return sentences[0] if sentences[0].is_query else None


def cloze_sentence(
    sentences: list[Sentence], *, seed: int, key: str, has_other: bool
) -> Sentence | None:
    """A random sentence but the first: the inverse cloze task (Lee et al. 2019, 1906.00300).

    has_other: does the text lose another sentence too? key: of the text, for the random choice.
    """
    candidates = [each for each in sentences[1:] if each.is_query]
    enough = ENOUGH_SENTENCES[has_other]
    if len(candidates) + 1 < enough:
        return None
    chosen = next(seeded_random.permuted(seed, key, len(candidates)))
    return candidates[chosen]


def first_words(text: str, *, seed: int, key: str) -> Sentence | None:
    """The beginning of a text without sentences, which tells its subject as a title does.

    A random number of words, a third of the text at most. None of short texts, of those with as
    many other characters as code and tables have, and where it has marks of Markdown. key: of the
    text, for the random choice.
    """
    if _letters(text) < FEWEST_LETTERS_OF_TEXT * len(text):
        return None
    words = [*BETWEEN_BLANKS.finditer(text)]
    longest = min(len(words) // FIRST_SHARE, MOST_FIRST)
    if longest < FEWEST_WORDS:
        return None
    counts = longest - FEWEST_WORDS + 1
    count = FEWEST_WORDS + next(seeded_random.permuted(seed, key, counts))
    beginning = _sentence(text, words[0].start(), words[count].start())
    is_query = beginning.is_prose and not MARKUP.match(beginning.text)
    return beginning if is_query else None
