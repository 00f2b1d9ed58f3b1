"""The character encoding of a table: named, or the only one that decodes the whole file."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import Any

import xxhash

from fletching.errors import InputError, UsageError

# Asked when a file is not UTF-8. Exactly one must decode it without an error.
CANDIDATES = ("cp932", "cp949", "gb18030", "big5", "euc_jp", "cp1252")
WITHOUT_MARK = (
    "utf-16-le",
    "utf-16-be",
)  # asked where zero bytes stand: no text in another encoding has any
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CHUNK = 1 << 20
BAD = "\ufdd0"  # a character that Unicode keeps out of text, in the place of what does not decode
TAIL = 1 << 16


def named(name: str) -> str:
    """The codec of this name, or Usage."""
    try:
        info = codecs.lookup(name)
        io.TextIOWrapper(
            io.BytesIO(), encoding=name
        )  # refuses rot13, hex and other codecs that are no text encoding
    except LookupError:
        raise UsageError(
            f"--encoding {name} is not known",
            "try utf-8, utf-16, cp1252, cp949, shift-jis, gb18030, big5",
        ) from None
    # What Windows calls Shift-JIS has the NEC and IBM letters that plain shift_jis lacks.
    return {
        "utf-8": "utf-8-sig",
        "shift_jis": "cp932",
        "gb2312": "gb18030",
        "gbk": "gb18030",
        "euc_kr": "cp949",
    }.get(info.name, info.name)


def detect(head: bytes, again: Callable[[], Any], where: str) -> str:
    """By byte-order mark, else UTF-8, else the one candidate that decodes everything.

    head: the first bytes. again: opens the table once more.
    """
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        fitting = [
            name for name in WITHOUT_MARK if _has_line_end(head, name) and _decodes(again(), name)
        ]
    elif _decodes(again(), "utf-8"):
        return "utf-8-sig"
    else:
        fitting = [name for name in CANDIDATES if _decodes(again(), name)]
    if len(fitting) == 1:
        return fitting[0]
    told = f"could be {', '.join(fitting)}" if fitting else "is none of the usual encodings"
    fix = f"name it, e.g. --encoding {fitting[0] if fitting else 'latin-1'}"
    raise InputError(
        f"{where} is not UTF-8 and {told}",
        fix
        + ("" if fitting else ", or drop what does not decode: --encoding utf-8 --bad-rows drop"),
    )


def _has_line_end(head: bytes, name: str) -> bool:
    """Of the wrong byte order, a line end is U+0A00, which is no character."""
    return "\n" in head[: len(head) // 2 * 2].decode(name, errors="replace")


def _decodes(file: Any, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        while chunk := file.read(CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    finally:
        file.close()
    return True


def _mark_bad(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return BAD, error.end


codecs.register_error("csv2pairs.mark", _mark_bad)


class Utf8(io.RawIOBase):
    """A file in any encoding as UTF-8 without a mark.

    What does not decode is refused with its line; with `mark` it becomes BAD and is told in `bad_lines`.
    swap: (text, replacement) of every occurrence, for delimiters of more than one byte.
    quote: the character whose occurrences are counted, to see at the end whether one is left open.
    """

    def __init__(
        self,
        file: Any,
        name: str,
        where: str,
        *,
        mark: bool = False,
        swap: tuple[str, str] | None = None,
        quote: str = "",
    ) -> None:
        self.file, self.name, self.where, self.mark, self.swap, self.quote = (
            file,
            name,
            where,
            mark,
            swap,
            quote,
        )
        self.decoder = codecs.getincrementaldecoder(name)("csv2pairs.mark" if mark else "strict")
        self.plain = name == "utf-8-sig" and swap is None  # bytes are passed on as they are
        self.lines = 1
        self.quotes = 0
        self.bad_lines: list[int] = []
        self.digest = xxhash.xxh3_128()
        self.tail = b""
        self.carry = ""
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            chunk = self.file.read(CHUNK)
            content = self._utf8(chunk)
            if content and self.quote:
                self.quotes += content.count(self.quote.encode())
            self.tail = content[-TAIL:] if len(content) >= TAIL else (self.tail + content)[-TAIL:]
            self.ready = memoryview(content)
            if not chunk:
                break
        size = min(len(self.ready), len(buffer))
        buffer[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size

    def _utf8(self, chunk: bytes) -> bytes:
        self.digest.update(chunk)
        if self.plain and self.lines > 1 and chunk.isascii() and not self.decoder.getstate()[0]:
            self.lines += chunk.count(b"\n")
            return chunk
        text = self._decode(chunk)
        if not self.swap:
            return text.encode()
        return self._swapped(text, final=not chunk).encode()

    def _decode(self, chunk: bytes) -> str:
        try:
            text = self.decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self.lines + error.object[: error.start].count(b"\n")
            shown = error.object[error.start : error.start + 4].hex(" ")
            fix = "name the encoding of the file, --encoding E, or leave such rows out by --bad-rows drop"
            raise InputError(
                f"{self.where}, line {line:,}: not {self.name.removesuffix('-sig')} (bytes {shown})",
                fix,
            ) from None
        if self.mark and BAD in text:
            self.bad_lines += [
                self.lines + number for number, line in enumerate(text.split("\n")) if BAD in line
            ]
        self.lines += text.count("\n")
        return text

    def _swapped(self, text: str, final: bool) -> str:
        """Text with the delimiter replaced, also where it falls on the edge of two chunks."""
        assert self.swap
        delimiter, replacement = self.swap
        if replacement in text:
            raise InputError(
                f"{self.where}: the text holds the control character {replacement!r}, which stands in for {delimiter!r}",
                "use a delimiter of one byte",
            )
        text = self.carry + text
        keep = 0 if final else len(delimiter) - 1
        pieces = text.split(delimiter)
        held = min(keep, len(pieces[-1]))
        self.carry = pieces[-1][len(pieces[-1]) - held :]
        pieces[-1] = pieces[-1][: len(pieces[-1]) - held]
        return replacement.join(pieces)
