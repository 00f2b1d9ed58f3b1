"""64-bit keys of texts: equal exactly when the texts are equal after normalisation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching.text import normalise

ABSENT = np.uint64(0)  # of a null or blank text
BLANKS = r"[\t\n\x0b\x0c\r\x1c-\x1f ]+"  # what str.split takes for a blank, of ASCII


def of(texts: pa.StringArray) -> np.ndarray:
    """xxh3-64 of each normalised text, uint64 [n]; ABSENT for nulls and blanks.

    ASCII, where normalising is lower case and blanks alone, goes through Arrow; the rest through Python.
    """
    texts = texts.fill_null("")
    ascii_ = pc.string_is_ascii(texts)
    plain = pc.ascii_lower(pc.if_else(ascii_, texts, ""))
    if pc.any(pc.match_substring_regex(plain, r"  |[\t-\r\x1c-\x1f]|^ | $")).as_py():
        plain = pc.ascii_trim_whitespace(pc.replace_substring_regex(plain, BLANKS, " "))
    raw = plain.cast(pa.binary()).to_pylist()
    for row in np.flatnonzero(~np.asarray(ascii_)):
        raw[row] = normalise(texts[row].as_py()).encode()
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(text) or 1 if text else 0 for text in raw), np.uint64, len(raw))


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
