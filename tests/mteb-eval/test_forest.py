"""The forest plot of the page: every change on one scale, with its numbers beside it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mteb_eval.report.forest import MARGIN, WIDTH, forest_plot
from mteb_eval.scoring.comparison import Figure, Interval

CHANGES = st.floats(-1, 1)


def figure_of(run, change, p=0.5):
    return Figure(
        run=run, task="t", split="test", metric="ndcg_at_10", value=Interval(0.5), count=9,
        change=change, p=p,
    )  # fmt: skip


@given(st.lists(st.tuples(CHANGES, CHANGES, CHANGES), min_size=1, max_size=5))
def test_marks_lie_on_one_scale_within_the_strip(triples):
    ordered = [sorted(triple) for triple in triples]
    figures = [figure_of("r", Interval(value, low, high)) for low, value, high in ordered]
    forest = forest_plot(figures)
    points = [(0.0, forest.zero)]
    for (low, value, high), row in zip(ordered, forest.rows):
        points += [(low, row.ends[0]), (value, row.x), (high, row.ends[1])]
    _values, marks = zip(*sorted(points))
    assert list(marks) == sorted(marks)
    assert min(marks) >= MARGIN - 1e-6 and max(marks) <= WIDTH - MARGIN + 1e-6


def test_a_row_is_called_what_the_test_says_and_a_baseline_has_none():
    figures = [
        figure_of("base", None, None),
        figure_of("a", Interval(0.1, 0.05, 0.15), 0.01),
        figure_of("b", Interval(-0.1, -0.15, -0.05), 0.01),
        figure_of("c", Interval(0.1, -0.05, 0.25), 0.2),
        figure_of("d", Interval(0.1), None),
    ]
    forest = forest_plot(figures)
    assert [(row.run, row.kind) for row in forest.rows] == [
        ("a", "better"), ("b", "worse"), ("c", "unclear"), ("d", "unclear"),
    ]  # fmt: skip
    assert forest.rows[0].text == "+0.100 [+0.050, +0.150] better, p = 0.010"
    assert forest.rows[3].ends is None
    assert forest_plot(figures[:1]) is None
