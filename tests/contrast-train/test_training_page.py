"""--html: the page of a run shows what its measures hold, in plots and in words."""

from __future__ import annotations

import itertools
import json
import re
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_checks import check_page

from contrast_train.cli import TOOL, check
from contrast_train.options import Options
from contrast_train.publishing import training_page
from contrast_train.publishing.training_page import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    draw_curve,
    group_points,
    read_course,
    render_page,
)
from fletching.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    """A model folder as a run of 100 steps leaves it, evaluated at steps 0, 50 and 100."""
    rows = [
        {"step": step, "split": None, "name": name, "value": value}
        for step in range(1, 101)
        for name, value in {"loss": 3 / step, "grad_norm": 2.0, "learning_rate": 1e-4}.items()
    ]
    rows += [
        {"step": step, "split": "dev", "name": "ndcg_at_10", "value": value}
        for step, value in ((0, 0.5), (50, 0.61), (100, 0.6))
    ]
    model = tmp_path / "tuned<b>"
    model.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), model / "measures.parquet")
    end = {"steps": 100, "best_step": 50, "rows": 1234}
    (model / "fletching.json").write_text(json.dumps({"step": {}, "end": end}))
    return model


def test_the_page_has_every_curve_in_a_plot_in_words_and_in_numbers(folder, tmp_path):
    training_page.write_page(str(tmp_path / "page.html"), str(folder), version="9.9")
    page = (tmp_path / "page.html").read_text("utf-8")
    check_page(page)
    assert "tuned&lt;b&gt;" in page and "tuned<b>" not in page
    assert "0.5000 → 0.6100" in page and "step 50" in page and "1,234" in page
    plots = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
    titles = [plot.findtext("title") for plot in plots]
    assert titles == [
        "nDCG@10 on the held-out examples by step",
        "Loss by step",
        "Gradient norm before clipping by step",
        "Learning rate by step",
    ]
    first, loss = plots[:2]
    assert "largest 0.61 (step 50)" in first.findtext("desc")
    assert "first 3 (step 1), last 0.03 (step 100)" in loss.findtext("desc")
    assert [mark.get("class") for mark in first.iter("circle")].count("best") == 1
    for plot in plots:
        names = [page.count(f'id="{each}"') for each in plot.get("aria-labelledby").split()]
        assert names == [1, 1]


def test_the_base_is_named_where_no_step_was_better(folder):
    course = read_course(str(folder))
    kept = training_page.TrainingCourse(**{**vars(course), "best_step": 0})
    assert "the base: no step was better" in render_page(kept, version="0")
    unmeasured = training_page.TrainingCourse(
        **{**vars(course), "best_step": None, "held_out": {}, "training": {}}
    )
    assert (
        "published"
        not in render_page(unmeasured, version="0").split("<h2>")[0].split("</style>")[1]
    )


VALUES = st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=3 * MOST_POINTS)


@given(VALUES)
def test_a_curve_lies_inside_its_plot_and_in_order(values):
    curve = draw_curve("x", list(enumerate(values, 1)))
    pairs = [tuple(map(float, pair.split(","))) for pair in f"{curve.line} {curve.band}".split()]
    assert all(LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1 for x, _ in pairs)
    assert all(TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for _, y in pairs)
    xs = [float(pair.split(",")[0]) for pair in curve.line.split()]
    assert xs == sorted(xs) and len(xs) <= MOST_POINTS


@given(VALUES, st.integers(1, 50))
def test_grouped_points_keep_the_mean_and_the_range(values, most):
    points = list(enumerate(values))
    groups = group_points(points, most)
    assert len(groups) <= most
    assert min(low for _, _, low, _ in groups) == min(values)
    assert max(high for _, _, _, high in groups) == max(values)
    assert all(low - 1e-6 <= mean <= high + 1e-6 for _, mean, low, high in groups)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(groups))


def test_a_page_that_could_not_be_written_is_refused_before_training(tmp_path):
    words = {"model": "m", "output": "out", "inputs": ("x",)}
    with pytest.raises(UsageError, match="the folder of --html no/page.html does not exist"):
        check(Options(**words, html="no/page.html"))
    with pytest.raises(UsageError, match="is a folder"):
        check(Options(**words, html=str(tmp_path)))
    assert TOOL.name == "contrast-train"
