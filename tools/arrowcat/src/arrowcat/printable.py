"""Texts of untrusted data made safe to show: control characters become visible."""

from __future__ import annotations

import re
import unicodedata

# What joins letters in Persian, Indic scripts and emoji: no printable characters, and harmless.
JOINERS = "\u200c\u200d"
LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
BLANKS_WITH_LINE_END = re.compile(r"\s*[\n\r\v\f\x85\u2028\u2029]\s*")
LINE_END_SIGN = " ⏎ "
# The signs of a text that are looked at for each column of the terminal: rows may hold megabytes.
SIGNS_A_COLUMN = 4


def one_line(text: str, columns: int) -> str:
    """A text as one line for a terminal of so many columns, possibly still too long for it."""
    excerpt = text[: max(columns, 1) * SIGNS_A_COLUMN]
    return escape(BLANKS_WITH_LINE_END.sub(LINE_END_SIGN, excerpt.strip())).replace("\t", " ")


def lines(text: str) -> str:
    """A text of several lines: line ends and tabs stay, other control characters are shown."""
    return escape(LINE_ENDS.sub("\n", text))


def number_of(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def escape(text: str) -> str:
    r"""The text with control and format characters as escapes: `\x1b`, `\u202e`.

    Escape sequences would move the cursor or colour the terminal, and marks of writing direction
    would show another order of letters than a program reads.
    """
    if text.isprintable():
        return text
    return "".join(sign if _is_harmless(sign) else _shown(sign) for sign in text)


def _is_harmless(sign: str) -> bool:
    return sign.isprintable() or sign in "\n\t" or sign in JOINERS


def _shown(sign: str) -> str:
    if unicodedata.category(sign) == "Zs":  # a blank of another width
        return " "
    return repr(sign)[1:-1]
