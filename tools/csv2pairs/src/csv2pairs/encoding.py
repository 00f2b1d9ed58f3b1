"""The character encoding of a table: named, or the only one that decodes the whole file."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import Any

from fletching.errors import Refused, Usage

# Asked in this order when a file is not UTF-8. Exactly one must decode it without an error.
CANDIDATES = ("cp932", "cp949", "gb18030", "big5", "euc_jp", "cp1252")
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
CHUNK = 1 << 20


def named(name: str) -> str:
    """The codec of this name, or Usage."""
    try:
        info = codecs.lookup(name)
    except LookupError:
        raise Usage(f"--encoding {name} is not known", "try utf-8, utf-16, cp1252, cp949, shift-jis, gb18030, big5") from None
    return "utf-8-sig" if info.name == "utf-8" else info.name


def detect(head: bytes, again: Callable[[], Any] | None, where: str) -> str:
    """By byte-order mark, else UTF-8, else the one candidate that decodes everything.

    head: the first bytes. again: opens the table once more; None for a pipe, which is taken for UTF-8.
    """
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if again is None or _decodes(again(), "utf-8"):
        return "utf-8-sig"
    fitting = [name for name in CANDIDATES if _decodes(again(), name)]
    if len(fitting) == 1:
        return fitting[0]
    told = f"could be {', '.join(fitting)}" if fitting else "is none of the usual encodings"
    raise Refused(f"{where} is not UTF-8 and {told}", f"name it, e.g. --encoding {fitting[0] if fitting else 'latin-1'}")


def _decodes(file: Any, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        while chunk := file.read(CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class Utf8(io.RawIOBase):
    """A file in any encoding as UTF-8 without a mark; refuses what does not decode, with its line."""

    def __init__(self, file: Any, name: str, where: str) -> None:
        self.file, self.name, self.where = file, name, where
        self.decoder = codecs.getincrementaldecoder(name)()
        self.lines = 1
        self.ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            chunk = self.file.read(CHUNK)
            self.ready = self._decode(chunk)
            if not chunk:
                break
        data, self.ready = self.ready[: len(buffer)], self.ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _decode(self, chunk: bytes) -> bytes:
        try:
            text = self.decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self.lines + error.object[: error.start].count(b"\n")
            shown = error.object[error.start : error.start + 4].hex(" ")
            raise Refused(f"{self.where}, line {line:,}: not {self.name.removesuffix('-sig')} (bytes {shown})", "name the encoding of the file: --encoding E") from None
        self.lines += text.count("\n")
        return text.encode()
