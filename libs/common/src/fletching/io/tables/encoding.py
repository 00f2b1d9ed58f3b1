"""The character encoding of a table: named, or the only one that decodes the whole file."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fletching.errors import InputError, UsageError

if TYPE_CHECKING:  # pyarrow comes with it, which --help must not wait for
    from fletching.io.streams import Readable

UTF8 = "utf-8-sig"
# Tried on a file that is not UTF-8. Exactly one of them must decode it without an error.
CANDIDATES = ("cp932", "cp949", "gb18030", "big5", "euc_jp", "cp1252")
# Tried instead on a file with zero bytes: text in no other encoding has any.
UTF16_WITHOUT_MARK = ("utf-16-le", "utf-16-be")
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What people mean by a name. Microsoft's Shift-JIS has NEC and IBM letters that shift_jis lacks.
SUPERSETS = {
    "utf-8": UTF8,
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
}
# Of host names and of Python's source code.
NO_ENCODINGS_OF_FILES = ("idna", "punycode", "raw_unicode_escape", "unicode_escape")
CHUNK = 1 << 20
ENOUGH_HANGUL = 16  # letters: that as many of a Chinese text become Hangul is below 1 in 1,000
HANGUL_SHARE = 0.95


class DetectedEncoding(NamedTuple):
    """An encoding that was detected, and why, as the end of a sentence."""

    codec: str
    reason: str = ""


def codec_named(name: str) -> str:
    """The codec of this name. Raises UsageError."""
    try:
        canonical = codecs.lookup(name).name
        if canonical.replace("-", "_") in NO_ENCODINGS_OF_FILES:
            raise LookupError(name)
        # Refuses rot13 and other codecs that are not text encodings, and those that never decode.
        io.TextIOWrapper(io.BytesIO("a,b\n".encode(name)), encoding=name).read()
    except (LookupError, ValueError):
        raise UsageError(
            f"--encoding {name} is not known",
            "try utf-8, utf-16, cp1252, cp949, shift-jis, gb18030, big5",
        ) from None
    return SUPERSETS.get(canonical, canonical)


def detect(head: bytes, reopen: Callable[[], Readable], where: str) -> DetectedEncoding:
    """By byte-order mark, else UTF-8, else the one candidate that decodes everything.

    Of several candidates, cp949 is chosen where its letters are Hangul. Other choices would be
    guesses that go unnoticed.

    head: the first bytes. reopen: opens the table once more. Raises InputError where none or
    several candidates decode it, and for NUL characters.
    """
    for mark, codec in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return DetectedEncoding(codec)
    if b"\0" in head:
        likely = [codec for codec in UTF16_WITHOUT_MARK if _has_line_end(head, codec)]
        fitting = [codec for codec in likely if _decodes(reopen(), codec)]
        if not fitting:
            raise _nul_error(head, where)
    elif _decodes(reopen(), "utf-8"):
        return DetectedEncoding(UTF8)
    else:
        fitting = [codec for codec in CANDIDATES if _decodes(reopen(), codec)]
    if len(fitting) == 1:
        return DetectedEncoding(fitting[0], ", the only encoding that fits")
    if "cp949" in fitting and _is_hangul(reopen()):
        others = ", ".join(codec for codec in fitting if codec != "cp949")
        reason = f": its letters are Hangul ({others} would decode too; --encoding decides)"
        return DetectedEncoding("cp949", reason)
    if fitting:
        raise InputError(
            f"{where} is not UTF-8 and could be {', '.join(fitting)}",
            f"name it, e.g. --encoding {fitting[0]}",
        )
    raise InputError(
        f"{where} is not UTF-8 and is none of the usual encodings",
        "name it, e.g. --encoding latin-1, "
        "or drop what does not decode: --encoding utf-8 --bad-rows drop",
    )


def _nul_error(head: bytes, where: str) -> InputError:
    line = head[: head.index(b"\0")].count(b"\n") + 1
    return InputError(
        f"{where}, line {line:,}: a NUL character (byte 00), which no text has",
        f"remove it, e.g. tr -d '\\000' < {where}, or keep it by naming the encoding: "
        "--encoding utf-8",
    )


def _is_hangul(file: Readable) -> bool:
    """Are nearly all letters beyond ASCII Hangul, read as cp949?

    Chinese text in GB 18030 or Big5 decodes as cp949 too, but half its letters become Hanja.
    """
    decoder = codecs.getincrementaldecoder("cp949")()
    sample = decoder.decode(file.read(CHUNK))
    file.close()
    letters = [letter for letter in sample if letter > "\x7f" and letter.isalpha()]
    hangul = sum("\uac00" <= letter <= "\ud7a3" for letter in letters)
    return hangul >= ENOUGH_HANGUL and hangul >= HANGUL_SHARE * len(letters)


def _has_line_end(head: bytes, codec: str) -> bool:
    """In the wrong byte order, a line end is U+0A00, which is not a character."""
    whole_characters = head[: len(head) // 2 * 2]
    return "\n" in whole_characters.decode(codec, errors="replace")


def _decodes(file: Readable, codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        while chunk := file.read(CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    finally:
        file.close()
    return True
