"""Positions of keys in a KeySet."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fletching.table import KeySet

keys = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50)


@given(keys)
def test_the_position_of_a_key_leads_back_to_it(numbers: list[int]) -> None:
    values = np.array(numbers, np.uint64)
    key_set = KeySet(values)
    assert np.array_equal(key_set.keys[key_set.positions(values)], values)
