"""JSON text as values, one after another, within limits that keep memory and stack safe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from fletching import unique_keys
from fletching.column_names import DEEPEST
from fletching.unique_keys import RepeatedKeyError

LONGEST = 64 << 20  # bytes of a line, characters of an item of an array
PIECE = 1 << 20  # characters of an array that are read at once
TOO_LONG = f"longer than {LONGEST >> 20} MB"
TOO_DEEP = f"nested more than {DEEPEST} levels deep"
BLANKS = re.compile(r"[ \t\r\n]*")
MOST_COLUMNS = 200_000
TOO_MANY_COLUMNS = f"more than {MOST_COLUMNS:,} columns"
FIXES = {
    TOO_LONG: "write one object a line, and split long texts",
    TOO_DEEP: "flatten it, or make it a text",
    TOO_MANY_COLUMNS: "put what the keys say into values of one column",
}

JsonValue = Any  # what json.loads gives

DECODER = json.JSONDecoder(object_pairs_hook=unique_keys.to_dict)


class LimitError(ValueError):
    """JSON that is well formed and nevertheless not read: too long, too deep, a key twice."""


def parse(text: str, decoder: json.JSONDecoder = DECODER) -> JsonValue:
    """The value of a whole text. Raises ValueError, of which LimitError is one."""
    try:
        value = decoder.decode(text)
    except RecursionError:
        raise LimitError(TOO_DEEP) from None
    except RepeatedKeyError as error:
        raise LimitError(str(error)) from None
    brackets = text.count("[") + text.count("{")
    _check(value, brackets=brackets, has_surrogates="\\ud" in text or "\\uD" in text)
    return value


def array_items(
    text: TextIO, decoder: json.JSONDecoder = DECODER
) -> Iterator[tuple[JsonValue, int]]:
    """The items of an array whose bracket was read, each with the length of its text.

    The file need not fit into memory.

    Raises ValueError, also for text behind the array.
    """
    window = _Window(text, decoder)
    separator = window.next_sign()
    while separator != "]":
        yield window.item()
        separator = window.next_sign()
        if separator == ",":
            window.position += 1
        elif separator != "]":
            raise ValueError("neither a comma nor the end of the array behind an item")
    window.position += 1
    if window.next_sign():
        raise ValueError("text behind the end of the array")


class _Window:
    """The part of a text that holds the next item of an array."""

    def __init__(self, text: TextIO, decoder: json.JSONDecoder) -> None:
        self.text, self.decoder = text, decoder
        self.buffer = ""
        self.position = 0
        self.is_complete = False

    def next_sign(self) -> str:
        """The next character that is no blank, which stays unread; "" at the end."""
        while True:
            blanks = BLANKS.match(self.buffer, self.position)
            assert blanks is not None  # it matches the empty text too
            self.position = blanks.end()
            sign = self.buffer[self.position : self.position + 1]
            if sign or self.is_complete:
                return sign
            self._read(PIECE)

    def item(self) -> tuple[JsonValue, int]:
        """The value that begins here, and the length of its text. Raises ValueError."""
        self.next_sign()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.position)
            except RecursionError:
                raise LimitError(TOO_DEEP) from None
            except RepeatedKeyError as error:
                raise LimitError(str(error)) from None
            except ValueError:
                unread = len(self.buffer) - self.position
                if self.is_complete:
                    raise
                if unread > LONGEST:
                    raise LimitError(TOO_LONG) from None
                self._read(max(PIECE, unread))
                continue
            if end == len(self.buffer) and not self.is_complete:  # a number may go on
                self._read(PIECE)
                continue
            self._check_item(value, end)
            length = end - self.position
            self.position = end
            return value, length

    def _check_item(self, value: JsonValue, end: int) -> None:
        span = (self.position, end)
        if end - self.position > LONGEST:
            raise LimitError(TOO_LONG)
        brackets = self.buffer.count("[", *span) + self.buffer.count("{", *span)
        has_surrogates = any(self.buffer.find(sign, *span) >= 0 for sign in ("\\ud", "\\uD"))
        _check(value, brackets=brackets, has_surrogates=has_surrogates)

    def _read(self, size: int) -> None:
        more = self.text.read(size)
        self.is_complete = not more
        self.buffer = self.buffer[self.position :] + more
        self.position = 0


def _check(value: JsonValue, *, brackets: int, has_surrogates: bool) -> None:
    """Raise LimitError for a value whose text may hold what no column can."""
    if brackets > DEEPEST and _is_too_deep(value):
        raise LimitError(TOO_DEEP)
    if has_surrogates:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(error.object[error.start]):04X}"
            raise LimitError(f"{half} is half a character") from None


def _is_too_deep(value: JsonValue) -> bool:
    """Are more than DEEPEST lists and objects inside one another, below the row itself?"""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [item for part in level for item in _items(part)]
        if not level:
            return False
    return any(isinstance(part, list | dict) for part in level)


def _items(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, dict):
        return iter(value.values())
    return iter(value if isinstance(value, list) else ())
