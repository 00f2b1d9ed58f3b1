"""64-bit keys of texts: equal exactly when the texts are equal after normalisation."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching.text import normalise

WORD = re.compile(r"\w+")
ABSENT = np.uint64(0)  # of a null or blank text
EMPTY = np.uint64(xxhash.xxh3_64_intdigest(b""))
# What lower case and blanks do to ASCII: A-Z to a-z, and all that str.split takes for a blank to one.
_ODD_BLANKS = bytes([*range(0x09, 0x0E), *range(0x1C, 0x20)])
_PLAIN = (
    bytes.maketrans(_ODD_BLANKS, b" " * len(_ODD_BLANKS))[:65]
    + bytes(range(97, 123))
    + bytes(range(91, 256))
)


def hash_texts(texts: pa.StringArray) -> np.ndarray:
    """xxh3-64 of each normalised text, uint64 [n]; ABSENT for nulls and blanks.

    ASCII, where normalising is lower case and blanks alone, is normalised as one block of bytes; the rest
    goes through Python.
    """
    raw = _normalised(texts.fill_null(""))
    found = np.fromiter(map(xxhash.xxh3_64_intdigest, raw), np.uint64, len(raw))
    found[found == ABSENT] = 1
    found[found == EMPTY] = ABSENT
    return found


def hash_repeated_texts(texts: pa.StringArray) -> np.ndarray:
    """`hash_texts` for a column of few distinct texts: each is hashed once."""
    encoded = texts.fill_null("").dictionary_encode()
    return (
        hash_texts(encoded.dictionary)[encoded.indices.to_numpy()]
        if len(encoded)
        else np.zeros(0, np.uint64)
    )


def hash_word_runs(texts: pa.StringArray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(row of the text, key) of every run of `size` words in it, both [runs]; case, blanks and punctuation do not count."""
    words = [WORD.findall(normalise(text or "")) for text in texts.to_pylist()]
    owner = np.repeat(np.arange(len(words)), [len(found) for found in words])
    digest = xxhash.xxh3_64_intdigest
    hashed = np.fromiter(
        (digest(word.encode()) for found in words for word in found), np.uint64, len(owner)
    )
    runs = max(len(owner) - size + 1, 0)
    same = owner[:runs] == owner[size - 1 :]
    mixed = mix(*(hashed[i : i + runs] for i in range(size))) if runs else hashed[:0]
    return owner[:runs][same], mixed[same]


def among(asked: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of the keys stand in `known`, sorted: bool [asked]."""
    if not len(known):
        return np.zeros(len(asked), bool)
    return known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked


def _normalised(texts: pa.StringArray) -> list[bytes]:
    """UTF-8 of each normalised text."""
    if not len(texts):
        return []
    _, offsets, values = texts.buffers()
    ends = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4).astype(np.int64)
    given = bytes(memoryview(values)[ends[0] : ends[-1]]) if values is not None else b""
    content, starts, stops = _squeezed(given.translate(_PLAIN), ends - ends[0])
    raw = [content[start:stop] for start, stop in zip(starts.tolist(), stops.tolist())]
    if not given.isascii():
        for row in np.flatnonzero(~np.asarray(pc.string_is_ascii(texts))).tolist():
            raw[row] = normalise(texts[row].as_py()).encode()
    return raw


def _squeezed(content: bytes, ends: np.ndarray) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Bytes without blanks at the ends of a text and with single ones inside; where each starts and stops.

    ends: int64 [n + 1], the offsets of n texts in `content`.
    """
    plain = np.frombuffer(content, np.uint8)
    blank = plain == ord(" ")
    after_blank = np.empty_like(blank)
    after_blank[1:] = blank[:-1]
    after_blank[ends[:-1][np.diff(ends) > 0]] = (
        True  # a blank at the start of a text is like a second one
    )
    excess = blank & after_blank
    if excess.any():
        plain = plain[~excess]
        content = plain.tobytes()
        ends = ends - np.concatenate([[0], excess.cumsum()])[ends]
    starts, stops = ends[:-1], ends[1:].copy()
    filled = np.flatnonzero(stops > starts)
    stops[filled] -= plain[stops[filled] - 1] == ord(" ")
    return content, starts, stops


def mix(*parts: np.ndarray | np.uint64 | int) -> np.ndarray:
    """A well-mixed uint64 of several (splitmix64, Steele et al. 2014, folded over the parts)."""
    state: np.ndarray = np.uint64(0x9E3779B97F4A7C15)  # type: ignore[assignment]
    with np.errstate(over="ignore"):
        for part in parts:
            state = (state ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state
