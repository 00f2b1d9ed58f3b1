"""The page that tools share: round ticks, and texts of data that stay text."""

from __future__ import annotations

import itertools

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.page import page_environment, scale_ticks

ENDS = st.floats(-1e6, 1e6)


@given(ENDS, ENDS, st.sampled_from([0.0, 1e-3]))
def test_ticks_are_few_even_steps_around_the_values(one, two, least_span):
    low, high = min(one, two), max(one, two)
    ticks = scale_ticks(low, high, least_span=least_span)
    slack = 1e-8 * (ticks[-1] - ticks[0]) + 1e-9
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + slack and ticks[-1] >= high - slack
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    if low <= 0 <= high:
        assert 0.0 in ticks


def test_small_values_have_a_scale_of_their_size():
    assert scale_ticks(0, 1e-4, least_span=0)[-1] == pytest.approx(1e-4)


def test_texts_are_escaped_and_missing_names_refused():
    template = page_environment("fletching.page").from_string("{{ text }} {{ x|px }} {{ name }}")
    assert template.render(text="<b>\x1b[31m", x=1, name=2) == r"&lt;b&gt;\x1b[31m 1.0 2"
    with pytest.raises(jinja2.UndefinedError):
        template.render(text="", x=1)
