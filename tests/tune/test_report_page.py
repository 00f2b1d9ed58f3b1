"""report.html: what the files of a run make of it, and that no text of them is obeyed."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_checks import check_page

from fletching_tune import report_evidence
from fletching_tune.report_page import (
    STRIP_MARGIN,
    STRIP_WIDTH,
    TuningReport,
    change_strips,
    curve_plot,
    gather,
    render_page,
    write_page,
)
from fletching_tune.selection import Gain
from fletching_tune.steps.step import Step
from fletching_tune.verdict import Findings, judge
from fletching_tune.work_folder import WorkFolder

ATTACK = "<img src=x onerror=alert(1)>{{ 7*7 }}</pre>\x1b[2J"


def query_row(run, query, value, *, rank, top, relevant=("a",)):
    texts = {
        "a": "reset the password",
        "b": "Reset the password!",
        "c": "close the account",
        "d": ATTACK,
    }
    return {
        "run": run, "task": "test", "name": "ndcg_at_10", "query_id": query, "query": f"query {query}",
        "value": value, "rank": rank, "relevant_ids": list(relevant),
        "relevant_texts": [texts[name] for name in relevant[:3]],
        "top_ids": list(top), "top_texts": [texts[name] for name in top[:3]],
    }  # fmt: skip


@pytest.fixture
def rows():
    """Of four queries: one rose, two fell, one stayed; all systems agree on d for q3."""
    by_query = {
        "q0": [(0.5, 2, "ca"), (1.0, 1, "ac"), (0.1, 4, "cd")],
        "q1": [(1.0, 1, "ab"), (0.6, 2, "ba"), (0.1, 3, "ab")],
        "q2": [(1.0, 1, "ac"), (0.0, 0, "cdb"), (1.0, 1, "ac")],
        "q3": [(0.4, 3, "dca"), (0.4, 3, "dca"), (0.0, 0, "d")],
    }
    table = [
        query_row(run, query, value, rank=rank, top=top)
        for query, columns in by_query.items()
        for run, (value, rank, top) in zip(("base", "tuned", "BM25"), columns)
    ]
    return pl.DataFrame(table)


def test_queries_that_fell_come_with_what_was_found_instead(rows):
    changes = report_evidence.changed_queries(rows, "tuned")
    assert (changes.rose, changes.fell, changes.same) == (1, 2, 1)
    worst, second = changes.fallen
    assert (worst.query, worst.before, worst.after) == ("query q2", 1, 0)
    assert worst.answer == "reset the password"
    assert worst.instead == ["close the account", ATTACK, "Reset the password!"]
    assert second.instead == ["Reset the password!"]


def test_what_all_systems_rank_first_without_a_label_is_worth_a_look(rows):
    [agreed] = report_evidence.agreed_documents(rows, "tuned")
    assert (agreed.query, agreed.first, agreed.second) == ("query q3", ATTACK, "reset the password")
    only = rows.filter(pl.col("run") != "BM25")
    assert (
        report_evidence.agreed_documents(only, "tuned") == []
    )  # two models of one family agree often


def test_a_document_of_the_same_words_as_the_answer_is_worth_a_look(rows):
    [same] = report_evidence.near_duplicates(rows)
    assert (same.query, same.first, same.second) == (
        "query q1", "Reset the password!", "reset the password",
    )  # fmt: skip
    assert report_evidence.overlap(set(), set()) == 0
    assert report_evidence.overlap({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)


def write_pairs(path, pairs, **columns):
    pl.DataFrame(
        {"query": [q for q, _ in pairs], "pos": [p for _, p in pairs], **columns}
    ).write_parquet(path)
    return str(path)


def test_labels_that_contradict_each_other_are_seen_across_case_and_files(tmp_path):
    plain = [(f"query {number}", [f"answer {number}"]) for number in range(10)]
    one = write_pairs(tmp_path / "one.parquet", [*plain, ("How much?", ["ten"])])
    two = write_pairs(tmp_path / "two.parquet", [("how  MUCH", ["twelve"]), ("how much?", ["ten"])])
    [several] = report_evidence.contradictions([one, two])
    assert several.kind == "several answers"
    assert (several.query, several.first, several.second) == ("How much?", "ten", "twelve")
    natural = write_pairs(
        tmp_path / "three.parquet", [("q1", ["a", "b"]), ("q2", ["c", "d"]), ("q3", ["e"])]
    )
    assert report_evidence.contradictions([natural]) == []  # that is how these data are
    mined = write_pairs(tmp_path / "four.parquet", plain[:2], neg=[["answer 0", "x"], None])
    [both] = report_evidence.contradictions([mined])
    assert (both.kind, both.query, both.first) == ("answer and negative", "query 0", "answer 0")


WON = Gain(value=0.04, low=0.01, high=0.07)


def verdict_of(text="base", *, test=WON):
    findings = Findings(
        base=text, winner=text, dev=Gain(value=0.05, low=0.02, high=0.08), test=test, queries=312,
        base_score=0.7, bm25_score=0.6, smallest_visible=0.02,
        curve=((0.25, 0.01), (0.5, 0.03), (1.0, 0.05)), guard=Gain(value=-0.01, low=-0.02, high=0.0),
    )  # fmt: skip
    return judge(findings, tuned=text)


@pytest.fixture
def work(tmp_path, rows):
    """The files that `gather` reads."""
    folder = WorkFolder(str(tmp_path / "out"))
    for name in ("pairs", "summaries"):
        (tmp_path / "out.tune" / name).mkdir(parents=True)
    for name in ("train", "dev", "test"):
        write_pairs(
            folder.split(name), [(f"{name} {number}", [f"{number}"]) for number in range(6)]
        )
    rows.write_parquet(folder.file("test.queries.parquet"))
    with open(folder.file("test.txt"), "w", encoding="utf-8") as file:
        file.write("test, 4 queries\n  nDCG@10 …\n")
    for name in ("pairs-all", "split", "mining"):
        with open(folder.summary(name), "w", encoding="utf-8") as file:
            json.dump({"dropped": {f"with an empty query {ATTACK}": 3}}, file)
    return folder


def steps():
    names = {
        "pairs-all": "csv2pairs",
        "split": "csv2pairs",
        "mining": "hnmine",
        "test": "mteb-eval",
    }
    return [
        Step(name=name, stage="split", argv=(program, "a b.csv", ATTACK), outputs=())
        for name, program in names.items()
    ]


def report_of(work, verdict, **changes):
    settings = {"split": "test", "tuned": "tuned", "steps": steps(), "seconds": 90.0}
    candidates = {f"infonce {ATTACK}": Gain(value=0.05, low=0.02, high=0.08)}
    return gather(work, verdict, candidates, **settings | changes)


class Elements(HTMLParser):
    """Tags, attributes that load or run something, and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.active, self.text = set(), [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.active += [
            (name, value)
            for name, value in attrs
            if name.startswith("on")
            or name == "src"
            or (name == "href" and not value.startswith("#"))
        ]

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_all_parts_and_obeys_no_text(work, tmp_path):
    report = report_of(work, verdict_of(ATTACK))
    write_page(str(tmp_path / "report.html"), report)
    page = (tmp_path / "report.html").read_text("utf-8")
    elements = Elements()
    elements.feed(page)
    assert elements.active == [] and elements.tags.isdisjoint({"script", "img", "link", "iframe"})
    assert "default-src 'none'" in page and "\x1b" not in page and "49<" not in page
    check_page(page)
    for part in (
        "verdict: WIN +0.040 [+0.010, +0.070] nDCG@10 over 312 held-out queries",
        "1 rose, 2 fell and 1 are as they were", "found instead", "1 → not found",
        "Probable false negatives", "Near duplicates", "pairs-all", "mining",
        "csv2pairs 'a b.csv'", "+0.050 [+0.020, +0.080]", "Each doubling was worth +0.020",
    ):  # fmt: skip
        assert part in elements.text, part
    assert [row.step for row in report.dropped] == ["pairs-all", "mining"]  # `split` reads the same
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
    labels = re.findall(r'aria-label="learning curve: ([^"]*)"', page)
    assert labels == ["25% of the rows +0.010, 50% of the rows +0.030, 100% of the rows +0.050"]
    assert render_page(report) == page


def test_a_run_without_candidates_has_a_page_too(work):
    verdict = judge(
        Findings(
            base="base", winner=None, dev=None, test=None, queries=4, base_score=0.5,
            bm25_score=None, smallest_visible=None,
        ),
        tuned="out",
    )  # fmt: skip
    report = TuningReport(
        verdict=verdict, candidates={}, split="dev", tuned="", changes=None, table="", dropped=(),
        suspects=(), commands=(), seconds=1.0,
    )  # fmt: skip
    page = render_page(report)
    assert "NO GAIN: keep the base base" in page
    assert "No candidate was better than the base" in page
    assert "There is no learning curve" in page and "None was seen." in page
    assert report_of(work, verdict, tuned=None).changes is None


CHANGES = st.floats(-1, 1)


@given(st.lists(st.tuples(CHANGES, CHANGES, CHANGES), min_size=1, max_size=4))
def test_marks_of_changes_lie_in_order_on_one_scale(triples):
    gains = {}
    for number, triple in enumerate(triples):
        low, value, high = sorted(triple)
        gains[str(number)] = Gain(value=value, low=low, high=high)
    verdict = verdict_of(test=None)
    report = TuningReport(
        verdict=verdict, candidates=gains, split="dev", tuned="", changes=None, table="", dropped=(),
        suspects=(), commands=(), seconds=1.0,
    )  # fmt: skip
    strips = change_strips(report)
    points = [(0.0, strips.zero)]
    for row in strips.rows:
        points += [
            (row.gain.low, row.ends[0]),
            (row.gain.value, row.x),
            (row.gain.high, row.ends[1]),
        ]
    marks = [mark for _, mark in sorted(points)]
    assert marks == sorted(marks)
    assert min(marks) >= STRIP_MARGIN - 1e-6
    assert max(marks) <= STRIP_WIDTH - STRIP_MARGIN + 1e-6


def test_a_learning_curve_needs_two_points_and_doubles_from_step_to_step():
    assert curve_plot([(1.0, 0.1)]) is None
    first, second, third = curve_plot([(1.0, 0.1), (0.25, 0.0), (0.5, 0.05)]).points
    assert second[0] - first[0] == pytest.approx(third[0] - second[0])
    assert first[1] > second[1] > third[1]  # y grows downwards
