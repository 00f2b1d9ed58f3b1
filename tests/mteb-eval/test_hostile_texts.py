"""Markup, scripts and control characters in every field: text on the page, and text on a terminal."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
from page_checks import check_page

from mteb_eval.report import html_report, text_report
from mteb_eval.report.sections import make_sections
from mteb_eval.scoring import comparison
from mteb_eval.scoring.metrics import DEPTHS
from mteb_eval.scoring.task_result import TaskResult

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title></style><iframe src=//evil.example>",
    "{{ 7 * 7 }}{% for x in y %}",
    "<!--",
    "]]><![CDATA[",
    "&lt;b&gt;",
    "javascript:alert(1)",
)
TERMINAL = "\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\u202e\u2028\x00"


def hostile_result(run: str, attack: str, ranks: list[int]) -> TaskResult:
    values = np.array([1 / rank for rank in ranks])
    observed = pa.table(
        {
            "id": [f"{attack}{number}" for number in range(len(ranks))],
            "rank": ranks,
            "ndcg_at_10": values,
            "recall_at_10": values,
        }
    )
    return TaskResult(
        task=attack,
        kind="Retrieval",
        split=attack,
        subset="default",
        main_metric="ndcg_at_10",
        scores={"ndcg_at_10": float(values.mean()), attack: 0.5}
        | {f"recall_at_{depth}": 0.5 for depth in DEPTHS},
        observed=observed,
        settings={
            name: {attack: attack} if name == "prompts_used" else attack
            for name in html_report.SETTINGS
        },
        effort={"documents": 3},
    )


def hostile_sections(attack: str):
    base, other = f"base {attack}", f"other {attack}"
    runs = {
        base: hostile_result(base, attack, [1, 3, 5]),
        other: hostile_result(other, attack, [2, 1, 5]),
    }
    key = (runs[base].label, attack)
    figures = [
        figure
        for metric in ("ndcg_at_10", attack)
        for figure in comparison.compare_runs(runs, baseline=base, metric=metric, seed=0)
    ]
    texts = {f"{attack}{number}": f"query {number} {attack}" for number in range(3)}
    sections = make_sections(
        {key: runs},
        figures,
        baseline=base,
        query_texts={key: texts},
        flags=[(runs[base].label, f"flag {attack}")],
        changed=5,
    )
    return sections, base


class Elements(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def elements_of(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


def test_markup_in_any_field_of_the_page_stays_text() -> None:
    sections, base = hostile_sections("harmless")
    page = html_report.render_page(sections, baseline=base, version="0")
    check_page(page)
    harmless = elements_of(page)
    for attack in ATTACKS:
        sections, base = hostile_sections(attack)
        page = html_report.render_page(sections, baseline=base, version=attack)
        elements = elements_of(page)
        assert elements.tags == harmless.tags, attack
        assert elements.attributes == harmless.attributes, attack
        assert elements.text.count(attack) >= 10, attack
        assert not re.search(r"49\s*<", page)


def test_control_characters_reach_no_terminal() -> None:
    sections, base = hostile_sections(TERMINAL)
    table = text_report.render(sections, baseline=base, width=200)
    assert all(letter.isprintable() or letter == "\n" for letter in table)
    assert "\\x1b[2J" in table


def test_control_characters_reach_no_page() -> None:
    sections, base = hostile_sections(TERMINAL)
    page = html_report.render_page(sections, baseline=base, version=TERMINAL)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", page)
    assert "\\x1b[2J" in page
