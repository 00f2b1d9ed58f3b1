"""Sentences of a text, by their end marks: enough to cut between them, in any language."""

from __future__ import annotations

import itertools
import re

# A mark at the end of a word, quotes behind it, a blank; or a mark of a script without blanks.
# Not behind a single letter (A. Smith) or usual abbreviations. A blank line ends one too.
SENTENCE_END = re.compile(
    r"(?:(?<!\b\w)(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bFig)"
    r"(?<!\bfig)(?<!\bEq)(?<!\bNo)(?<!\bal)[.!?…؟।]+[\"'”’)\]]*(?=\s)"
    r"|[。！？]+[」』”’）]*"
    r"|\n[^\S\n]*(?=\n))\s*"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence with the blanks behind it; together they are the text.

    >>> [text[a:b] for text in ["One, e.g. this. Two! 三。四"] for a, b in sentence_spans(text)]
    ['One, e.g. this. ', 'Two! ', '三。', '四']
    """
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    bounds = [0, *ends]
    if bounds[-1] < len(text):
        bounds.append(len(text))
    return [(start, end) for start, end in itertools.pairwise(bounds) if end > start]
