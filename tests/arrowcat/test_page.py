"""--html: one static page; whatever stands in the data stays text."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from page_checks import check_page

from arrowcat.figures.hardest_negatives import HardestNegatives
from arrowcat.figures.near_duplicates import LEAST_RESEMBLANCE, NearDuplicates
from arrowcat.rows.row_selection import NumberedRows
from fletching.text import normalise

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&'</dd>\x1b[31m\u202e"
VOID = {"meta", "rect", "line", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags, texts and attributes of a page; every tag that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "rect":  # which holds its title
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def page_of(look: Any, tmp_path: Path) -> Any:
    def page_of(path: Any, *words: Any) -> tuple[str, Page]:
        done = look(path, "--html", tmp_path / "page.html", *words)
        assert done.rc == 0, done.err
        text = (tmp_path / "page.html").read_text("utf-8")
        return text, Page(text)

    return page_of


def test_markup_in_the_data_stays_text(page_of: Any, stored: Any) -> None:
    rows = [
        {
            "id": EVIL,
            "query": f"{EVIL} {number}",
            "pos": [EVIL],
            "neg": [EVIL, "b"],
            "pos_scores": [0.5],
            "neg_scores": [0.6, 0.1],
            "prompt": EVIL,
            "task": f"{EVIL} {number}",
            EVIL: EVIL,
        }
        for number in range(3)
    ]
    path = stored(rows, f"{EVIL.replace('/', '')}.parquet"[:60] + ".parquet", **{EVIL: pa.string()})
    text, page = page_of(path)
    assert page.count("script") == page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
    assert "&lt;script&gt;alert(1)" in text


def test_the_page_loads_nothing_and_is_for_everyone(page_of: Any, stored: Any, scored: Any) -> None:
    text, page = page_of(stored(scored))
    check_page(text)
    names = {name for _, attributes in page.tags for name in attributes}
    assert not names & {"src", "srcset", "action"}
    assert all(attributes["href"].startswith("#") for tag, attributes in page.tags if tag == "a")
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "@media (max-width" in text
    assert page.count("table") == page.count("caption") > 0
    for tag, attributes in page.tags:
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    targets = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert sorted(targets) == sorted(f"#{identity}" for identity in identities)


def test_the_page_shows_charts_negatives_and_samples(
    page_of: Any, stored: Any, scored: Any
) -> None:
    text, page = page_of(stored(scored))
    assert page.count("svg") == 3 + 2 + 1  # lengths of query, pos, neg; two scores; negatives a row
    assert "Hardest negatives" in text
    assert "tide is not bread" in text
    assert text.count("<article>") >= 6
    assert "all" in text.lower()


def test_equal_rows_make_equal_pages(page_of: Any, stored: Any, scored: Any) -> None:
    path = stored(scored * 10)
    first, _ = page_of(path)
    assert page_of(path)[0] == first
    assert page_of(path, "--seed", 5)[0] != first


@pytest.mark.parametrize("name", ["texts", "vectors", "tasks", "measures"])
def test_every_schema_has_a_page(name: str, page_of: Any) -> None:
    from suite import ROOT

    _, page = page_of(ROOT / "schemas" / name / "v1" / "examples" / "full.jsonl")
    assert page.count("article") >= 1


def test_no_rows_make_a_page(page_of: Any, stored: Any, scored: Any) -> None:
    text, _ = page_of(stored(scored), "--where", "task = 'none'")
    assert ">0</dd>" in text


# --- near duplicates -----------------------------------------------------------------------------


def runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", normalise(text))
    return {tuple(words[start : start + 3]) for start in range(len(words) - 2)}


def test_near_duplicates_are_those_of_all_pairs() -> None:
    draw = random.Random(3)
    vocabulary = [f"word{number}" for number in range(300)]
    texts = []
    for _ in range(60):
        words = draw.choices(vocabulary, k=draw.randint(8, 60))
        texts.append(" ".join(words))
        for _ in range(draw.randint(0, 3)):
            changed = list(words)
            for _ in range(draw.randint(1, 4)):
                changed[draw.randrange(len(words))] = draw.choice(vocabulary)
            texts.append(" ".join(changed))
    near = NearDuplicates()
    near.add(np.arange(1, len(texts) + 1), pa.array(texts))
    got = {(pair.rows[0] - 1, pair.rows[1] - 1): pair.resemblance for pair in near.pairs()}
    expected = {}
    for second in range(len(texts)):
        for first in range(second):
            a, b = runs(texts[first]), runs(texts[second])
            if normalise(texts[first]) == normalise(texts[second]):
                continue
            share = len(a & b) / len(a | b)
            if share >= LEAST_RESEMBLANCE:
                expected[first, second] = share
    assert len(expected) > 20
    assert got == pytest.approx(expected)


def test_equal_texts_are_no_near_duplicates_and_chinese_ones_are() -> None:
    near = NearDuplicates()
    texts = [
        "The owl hunts at night.",
        "the OWL hunts at  night.",
        "猫は夜に狩りをする動物である。",
    ]
    near.add(np.arange(4), pa.array([*texts, "猫は夜に狩りをする動物です。"]))
    [pair] = near.pairs()
    assert pair.rows == (2, 3)
    assert NearDuplicates().pairs() == []


# --- hard negatives ------------------------------------------------------------------------------


def part(rows: list[dict[str, Any]]) -> NumberedRows:
    numbers = pa.list_(pa.float32())
    columns = [
        ("query", pa.string()),
        ("pos", pa.list_(pa.string())),
        ("neg", pa.list_(pa.string())),
    ]
    columns += [("pos_scores", numbers), ("neg_scores", numbers)]
    columns += [("pos_score_kind", pa.string()), ("neg_score_kind", pa.string())]
    batch = pa.RecordBatch.from_pylist(rows, pa.schema(columns))
    return NumberedRows(np.arange(1, len(rows) + 1), batch)


def test_the_hardest_negatives_are_those_of_all_pairs() -> None:
    draw = random.Random(5)
    rows = [
        {
            "query": f"q{number}",
            "pos": ["p0", "p1"],
            "neg": [f"n{k}" for k in range(4)],
            "pos_scores": [draw.random(), draw.random()],
            "neg_scores": [draw.random() for _ in range(4)],
            "pos_score_kind": "cosine",
            "neg_score_kind": draw.choice(["cosine", "cosine", "reranker"]),
        }
        for number in range(200)
    ]
    hardest = HardestNegatives(10)
    hardest.add(part(rows))
    expected = sorted(
        (
            max(row["neg_scores"]) - max(row["pos_scores"])
            for row in rows
            if row["neg_score_kind"] == "cosine"
        ),
        reverse=True,
    )[:10]
    assert [hard.hardness for hard in hardest.ranked()] == pytest.approx(expected, abs=1e-6)
    first = hardest.ranked()[0]
    row = rows[first.row - 1]
    assert first.negative == f"n{np.argmax(row['neg_scores'])}"
    assert first.positive == f"p{np.argmax(row['pos_scores'])}"


def test_without_scores_words_in_common_decide() -> None:
    rows = [
        {"query": "a", "pos": ["the owl hunts"], "neg": ["iron ore", "the owl sleeps"]},
        {"query": "b", "pos": ["the moon"], "neg": ["the moon!"]},
        {"query": "c", "pos": ["x"], "neg": None},
    ]
    hardest = HardestNegatives(5)
    hardest.add(part(rows))
    assert not hardest.by_score
    assert [(hard.row, hard.negative) for hard in hardest.ranked()] == [
        (2, "the moon!"),
        (1, "the owl sleeps"),
    ]
