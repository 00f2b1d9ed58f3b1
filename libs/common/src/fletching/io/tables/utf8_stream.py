"""A text in any encoding, read as UTF-8."""

from __future__ import annotations

import codecs
import io
from typing import NamedTuple

import xxhash

from fletching.errors import InputError
from fletching.io.streams import Readable
from fletching.io.tables.encoding import CHUNK, UTF8
from fletching.protocols import Lineage

# Replaces bytes that do not decode: a code point that Unicode reserves as "not a character".
UNDECODABLE = "\ufdd0"
TAIL = 1 << 16


class Substitution(NamedTuple):
    """A text and what replaces each of its occurrences."""

    text: str
    replacement: str


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return UNDECODABLE, error.end


codecs.register_error("fletching.mark", _mark_undecodable)


class Utf8Stream(io.RawIOBase):
    """A file in any encoding as UTF-8 without a byte-order mark.

    mark_undecodable: replace what does not decode by UNDECODABLE and list its lines in
    `undecodable_lines`; without it, an InputError names the line.
    substitution: for delimiters of more than one byte.
    quote: the character whose occurrences are counted, to see at the end whether one is left open.
    """

    def __init__(
        self,
        file: Readable,
        codec: str,
        where: str,
        *,
        mark_undecodable: bool = False,
        substitution: Substitution | None = None,
        quote: str = "",
    ) -> None:
        self.file = file
        self.codec = codec
        self.where = where
        self.marks_undecodable = mark_undecodable
        self.substitution = substitution
        self.quote = quote.encode()
        self.quote_count = 0
        self.undecodable_lines: list[int] = []
        self.tail = b""  # the last bytes passed on, at most TAIL
        self._digest = xxhash.xxh3_128()
        self._decoder = codecs.getincrementaldecoder(codec)(
            "fletching.mark" if mark_undecodable else "strict"
        )
        self._passes_bytes_on = codec == UTF8 and substitution is None
        self._line = 1
        self._carry = ""  # the start of a delimiter that may go on in the next chunk
        self._ready = memoryview(b"")

    @property
    def encoding(self) -> str:
        """The name of the encoding, for messages."""
        return self.codec.removesuffix("-sig")

    @property
    def end(self) -> Lineage:
        """The lineage of what was read: the digest of the file's own bytes."""
        return {"digest": f"xxh3-128-bytes:{self._digest.hexdigest()}"}

    def readable(self) -> bool:
        """Yes, for io.BufferedReader."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; the number of bytes written into it."""
        while not self._ready:
            chunk = self.file.read(CHUNK)
            content = self._as_utf8(chunk)
            self._keep_account_of(content)
            self._ready = memoryview(content)
            if not chunk:
                break
        size = min(len(self._ready), len(buffer))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _keep_account_of(self, content: bytes) -> None:
        if content and self.quote:
            self.quote_count += content.count(self.quote)
        if len(content) >= TAIL:
            self.tail = content[-TAIL:]
        else:
            self.tail = (self.tail + content)[-TAIL:]

    def _as_utf8(self, chunk: bytes) -> bytes:
        self._digest.update(chunk)
        between_characters = not self._decoder.getstate()[0]
        if (
            self._passes_bytes_on
            and self._line > 1  # the mark of utf-8-sig is behind
            and chunk.isascii()
            and between_characters
        ):
            self._line += chunk.count(b"\n")
            return chunk
        text = self._decode(chunk)
        if self.substitution is not None:
            text = self._substitute(text, self.substitution, final=not chunk)
        return self._encode(text)

    def _encode(self, text: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError as error:  # UTF-7 can write half a character
            character = f"U+{ord(text[error.start]):04X}"
            raise InputError(
                f"{self.where}: {character} is half a character", "name the encoding: --encoding E"
            ) from None

    def _decode(self, chunk: bytes) -> str:
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self._line + error.object[: error.start].count(b"\n")
            shown = error.object[error.start : error.start + 4].hex(" ")
            raise InputError(
                f"{self.where}, line {line:,}: not {self.encoding} (bytes {shown})",
                "name the encoding of the file, --encoding E, "
                "or leave such rows out by --bad-rows drop",
            ) from None
        except UnicodeError as error:  # UTF-16 without its mark
            raise InputError(
                f"{self.where}: not {self.encoding} ({error})", "name the encoding: --encoding E"
            ) from None
        if self.marks_undecodable and UNDECODABLE in text:
            for number, line_text in enumerate(text.split("\n"), self._line):
                if UNDECODABLE in line_text:
                    self.undecodable_lines.append(number)
        self._line += text.count("\n")
        return text

    def _substitute(self, text: str, substitution: Substitution, *, final: bool) -> str:
        """The text with the delimiter replaced, also where it lies across two chunks."""
        delimiter, replacement = substitution
        if replacement in text:
            raise InputError(
                f"{self.where}: the text contains the control character {replacement!r}, "
                f"which replaces {delimiter!r} while it is parsed",
                "use a delimiter of one byte",
            )
        pieces = (self._carry + text).split(delimiter)
        last = pieces[-1]
        may_go_on = 0 if final else min(len(delimiter) - 1, len(last))
        cut = len(last) - may_go_on
        self._carry = last[cut:]
        pieces[-1] = last[:cut]
        return replacement.join(pieces)
