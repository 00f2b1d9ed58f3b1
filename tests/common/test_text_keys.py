"""Keys of texts: equal exactly when the texts are equal after normalisation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from fletching import text_keys
from fletching.text import normalise

BLANKS = " \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u2003"
TEXTS = st.lists(
    st.one_of(st.none(), st.text(), st.text(alphabet="aB " + BLANKS), st.text(alphabet="ﬁＡẞé "))
)


def reference(text: str | None) -> int:
    plain = normalise(text or "")
    return (xxhash.xxh3_64_intdigest(plain.encode()) or 1) if plain else 0


@given(TEXTS, st.integers(0, 3))
def test_a_key_is_the_hash_of_the_normalised_text(texts, start):
    array = pa.array(texts, pa.string()).slice(start)
    assert text_keys.hash_texts(array).tolist() == [reference(text) for text in texts[start:]]


@given(TEXTS)
def test_keys_of_few_distinct_texts_are_the_same_keys(texts):
    array = pa.array(texts * 2, pa.string())
    assert np.array_equal(text_keys.hash_repeated_texts(array), text_keys.hash_texts(array))


def test_mixed_numbers_spread_evenly_over_the_bits():
    mixed = text_keys.mix(7, np.arange(20_000))
    bits = (mixed[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert abs(bits.mean(0) - 0.5).max() < 0.02
