"""64-bit keys of texts: equal exactly when the texts are equal after normalisation."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching.table.key_set import Keys
from fletching.table.ragged_array import Integers, RaggedArray
from fletching.text import normalise

WORD = re.compile(r"\w+")
ABSENT = np.uint64(0)  # of a null or blank text
EMPTY = np.uint64(xxhash.xxh3_64_intdigest(b""))

# Normalising ASCII: A-Z to a-z, and each byte that str.split takes for a blank to one blank.
_ODD_BLANKS = bytes([*range(0x09, 0x0E), *range(0x1C, 0x20)])
_TO_BLANK = bytes.maketrans(_ODD_BLANKS, b" " * len(_ODD_BLANKS))
_NORMALISE_ASCII = _TO_BLANK[:65] + bytes(range(97, 123)) + bytes(range(91, 256))


def hash_texts(texts: pa.StringArray) -> Keys:
    """xxh3-64 of each normalised text, uint64 (n,); ABSENT for nulls and blanks.

    ASCII, where normalising concerns case and blanks alone, is normalised as one block of bytes;
    the rest goes through Python.
    """
    present = texts.fill_null("")
    digests = map(xxhash.xxh3_64_intdigest, _normalise_ascii(present))
    keys = np.fromiter(digests, np.uint64, len(present))
    is_other = ~np.asarray(pc.string_is_ascii(present))
    others = present.filter(pa.array(is_other)).to_pylist() if is_other.any() else []
    keys[is_other] = [xxhash.xxh3_64_intdigest(normalise(text).encode()) for text in others]
    keys[keys == ABSENT] = 1
    keys[keys == EMPTY] = ABSENT
    return keys


def hash_repeated_texts(texts: pa.StringArray) -> Keys:
    """`hash_texts` for a column of few distinct texts: each is hashed once."""
    if not len(texts):
        return np.zeros(0, np.uint64)
    encoded = texts.fill_null("").dictionary_encode()
    keys: Keys = hash_texts(encoded.dictionary)[encoded.indices.to_numpy()]
    return keys


def hash_word_runs(texts: pa.StringArray, size: int) -> tuple[Integers, Keys]:
    """(row of the text, key) of every run of `size` words in it, both (runs,).

    Case, blanks and punctuation do not count.
    """
    words = [WORD.findall(normalise(text or "")) for text in texts.to_pylist()]
    lengths = [len(row) for row in words]
    digests = (xxhash.xxh3_64_intdigest(word.encode()) for row in words for word in row)
    hashed = np.fromiter(digests, np.uint64, sum(lengths))
    owners = RaggedArray.from_lengths(hashed, lengths).owners
    runs = max(len(owners) - size + 1, 0)
    if not runs:
        return owners[:0], hashed[:0]
    within_one_text = owners[:runs] == owners[size - 1 :]
    shifted = (hashed[start : start + runs] for start in range(size))
    return owners[:runs][within_one_text], mix(*shifted)[within_one_text]


def mix(*parts: npt.NDArray[np.integer] | np.integer | int) -> Keys:
    """A well-mixed uint64 of several (splitmix64, Steele et al. 2014, folded over the parts).

    parts: of one shape, or scalars, which are broadcast.
    """
    state: Keys = np.asarray(0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            state = (state ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


# --- texts without nulls, normalised as one block of bytes ---------------------------------------


def _normalise_ascii(texts: pa.StringArray) -> Iterator[bytes]:
    """UTF-8 of each normalised text; of one that is not ASCII, some bytes.

    One by one: a list of them all would take new memory for every block of texts.
    """
    if not len(texts):
        return iter(())
    values = texts.buffers()[-1]
    ends = _offsets(texts).astype(np.int64)
    content = bytes(memoryview(values)[ends[0] : ends[-1]]) if values is not None else b""
    squeezed, starts, stops = _squeeze_blanks(content.translate(_NORMALISE_ASCII), ends - ends[0])
    return (squeezed[start:stop] for start, stop in zip(starts.tolist(), stops.tolist()))


def _offsets(texts: pa.StringArray) -> npt.NDArray[np.int32]:
    """Where each text starts among the characters, and where the last one stops: (n + 1,)."""
    _, offsets, _ = texts.buffers()
    return np.frombuffer(offsets, np.int32, count=len(texts) + 1, offset=texts.offset * 4)


def _squeeze_blanks(content: bytes, offsets: Integers) -> tuple[bytes, Integers, Integers]:
    """(the bytes without repeated or surrounding blanks, where each text starts, where it stops).

    offsets: int64 (n + 1,), of n texts in `content`.
    """
    characters = np.frombuffer(content, np.uint8)
    is_filled = np.diff(offsets) > 0
    ends = np.concatenate([offsets[:-1][is_filled], offsets[1:][is_filled] - 1])
    if not _has_two_blanks(content) and not (characters[ends] == ord(" ")).any():
        return content, offsets[:-1], offsets[1:]  # as most columns are
    is_blank = characters == ord(" ")
    after_blank = np.empty_like(is_blank)
    after_blank[1:] = is_blank[:-1]
    first_characters = offsets[:-1][is_filled]
    after_blank[first_characters] = True  # a blank at the start of a text counts as a repeated one
    is_excess = is_blank & after_blank
    if is_excess.any():
        characters = characters[~is_excess]
        content = characters.tobytes()
        excess_before = np.concatenate([[0], is_excess.cumsum()])
        offsets = offsets - excess_before[offsets]
    starts, stops = offsets[:-1], offsets[1:].copy()
    filled = np.flatnonzero(stops > starts)
    stops[filled] -= characters[stops[filled] - 1] == ord(" ")  # one blank may be left at the end
    return content, starts, stops


def _has_two_blanks(content: bytes) -> bool:
    """Is there a blank beside a blank? Looks at two bytes at a time: at even, then odd offsets."""
    return any(
        bool((np.frombuffer(content, "<u2", (len(content) - start) // 2, start) == 0x2020).any())
        for start in range(min(2, len(content)))
    )
