"""Bytes to text: by byte-order mark, by what the file states, as UTF-8, or by what decodes it."""

from __future__ import annotations

import codecs
import io
import re
import tokenize

from fletching.errors import InputError
from fletching.io.tables.encoding import BYTE_ORDER_MARKS, UTF8, detect

HTML_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w:.-]{2,40})", re.IGNORECASE)
STATED_WITHIN = 4096  # bytes
CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
MOST_CONTROL = 0.01  # of the characters; text has hardly any


class UndecodableError(Exception):
    """The bytes are no text. Its message is the reason for the account."""


def decode(content: bytes, *, format_name: str, encoding: str | None) -> tuple[str, str]:
    """(the text with LF as line end, the encoding). Raises UndecodableError.

    encoding: of files that are not UTF-8 and do not state theirs; None: detected.
    """
    codec = stated_encoding(content, format_name)
    if codec is None:
        codec = UTF8 if _is_utf8(content) else encoding or _detected(content)
    try:
        text = content.decode(codec)
    except (UnicodeDecodeError, LookupError):
        raise UndecodableError(f"not {codec}") from None
    if len(CONTROL.findall(text)) > MOST_CONTROL * len(text):
        raise UndecodableError("binary")
    return _unified(text), "utf-8" if codec == UTF8 else codec


def stated_encoding(content: bytes, format_name: str) -> str | None:
    """The encoding that a byte-order mark, an HTML page or a Python file names, if it is known.

    UTF-8 is not believed: a file that is not would be detected.
    """
    for mark, codec in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return codec
    name = None
    if format_name == "html":
        match = HTML_CHARSET.search(content[:STATED_WITHIN])
        name = match[1].decode("ascii") if match else None
    elif format_name == "python":
        try:
            name, _ = tokenize.detect_encoding(io.BytesIO(content[:STATED_WITHIN]).readline)
        except SyntaxError:
            name = None
    if name is None:
        return None
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        return None
    return None if codec in ("utf-8", "ascii") else codec


def _is_utf8(content: bytes) -> bool:
    """Is it UTF-8 without a NUL, which UTF-16 has?"""
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _detected(content: bytes) -> str:
    try:
        return detect(content[: 1 << 16], lambda: io.BytesIO(content), "it").codec
    except InputError as error:
        reason = "binary" if b"\0" in content else "of an unknown encoding"
        raise UndecodableError(reason) from error


def _unified(text: str) -> str:
    """Line ends as \\n, without a byte-order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
