"""--stats against a slow reference in plain Python."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowcat.figures.distributions import LengthCounts, ScoreValues, histogram
from fletching.text import normalise


def made_rows(count: int) -> list[dict[str, Any]]:
    draw = random.Random(7)
    words = ["Über", "owl", "the", "日本", "Bread ", "tide", "", "ﬁre"]
    rows = []
    for number in range(count):
        positives = [" ".join(draw.choices(words, k=draw.randint(1, 3)))] * draw.randint(1, 2)
        negatives = [draw.choice(words) for _ in range(draw.randint(0, 4))]
        rows.append(
            {
                "id": str(number),
                "query": " ".join(draw.choices(words, k=draw.randint(0, 2))),
                "pos": positives,
                "neg": draw.choice([negatives, None]),
                "pos_scores": [draw.uniform(-1, 1) for _ in positives],
                "pos_score_kind": "cosine",
                "task": draw.choice(["a", "b", None]),
                "domain": draw.choice(["x", "y"]),
            }
        )
    return rows


def quantiles(values: list[float]) -> dict[str, Any]:
    """By the nearest rank."""
    ordered = sorted(values)

    def rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return {
        "count": len(ordered),
        "least": ordered[0],
        "median": rank(0.5),
        "p95": rank(0.95),
        "most": ordered[-1],
        "mean": pytest.approx(sum(ordered) / len(ordered)),
    }


def repeated(keys: list[Any]) -> int:
    """How many came up before."""
    return sum(count - 1 for count in Counter(keys).values())


def figures(look: Any, path: Any, tmp_path: Path, *words: Any) -> dict[str, Any]:
    summary = tmp_path / "summary.json"
    done = look(path, "--stats", *words, "--json-summary", summary)
    assert done.rc == 0, done.err
    return json.loads(summary.read_text())["measures"]["statistics"]


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl"])
def test_the_figures_are_those_of_a_slow_reference(
    name: str, look: Any, write: Any, tmp_path: Path
) -> None:
    rows = made_rows(500)
    got = figures(look, write(tmp_path / name, rows), tmp_path)
    columns = got["columns"]
    assert got["rows"] == 500
    assert columns["query"]["lengths"] == quantiles([len(row["query"]) for row in rows])
    positives = [text for row in rows for text in row["pos"]]
    assert columns["pos"]["lengths"] == quantiles([len(text) for text in positives])
    assert columns["pos"]["items"] == quantiles([len(row["pos"]) for row in rows])
    negatives = [row["neg"] for row in rows if row["neg"] is not None]
    assert columns["neg"]["items"] == quantiles([len(texts) for texts in negatives])
    assert columns["neg"]["nulls"] == sum(row["neg"] is None for row in rows)
    empty = sum(text == "" for texts in negatives for text in texts)
    assert columns["neg"]["empty_texts"] == empty
    scores = [float(np.float32(score)) for row in rows for score in row["pos_scores"]]
    assert columns["pos_scores"]["numbers"] == quantiles(scores)
    assert columns["pos_score_kind"]["values"] == {"cosine": 500}

    queries = [normalise(row["query"]) for row in rows]
    assert got["duplicates"]["query"] == repeated([query for query in queries if query])
    pairs = [
        (query, normalise(text))
        for query, row in zip(queries, rows)
        for text in row["pos"]
        if query and normalise(text)
    ]
    assert got["duplicates"]["pairs"] == repeated(pairs)


@pytest.mark.parametrize("name", ["task", "domain"])
def test_the_figures_of_a_group_are_those_of_its_rows(
    name: str, look: Any, write: Any, tmp_path: Path
) -> None:
    rows = made_rows(300)
    got = figures(look, write(tmp_path / "in.parquet", rows), tmp_path)[f"by_{name}"]
    assert sum(record["rows"] for record in got) == 300
    assert [record["rows"] for record in got] == sorted(
        (record["rows"] for record in got), reverse=True
    )
    for record in got:
        members = [row for row in rows if row[name] == record["group"]]
        assert record["rows"] == len(members)
        lengths = [len(row["query"]) for row in members]
        assert record["query_length"] == pytest.approx(sum(lengths) / len(members))
        negatives = [row["neg"] or [] for row in members]
        texts = [len(text) for listed in negatives for text in listed]
        assert record["neg_a_row"] == pytest.approx(len(texts) / len(members))
        assert record["neg_length"] == pytest.approx(sum(texts) / len(texts))


def test_batches_do_not_change_the_figures(look: Any, write: Any, tmp_path: Path) -> None:
    rows = made_rows(100)
    whole = figures(look, write(tmp_path / "in.arrows", rows), tmp_path)
    table = pa.ipc.open_stream((tmp_path / "in.arrows").read_bytes()).read_all()
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    assert figures(look, tmp_path / "in.parquet", tmp_path) == whole


def test_lengths_in_tokens(look: Any, write: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({"[CLS]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 0)])
    tokenizer.enable_truncation(3)
    (tmp_path / "model").mkdir()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    rows = [{"query": "one two three four five", "pos": ["six", ""]}, {"query": "a", "pos": ["b"]}]
    path = write(tmp_path / "in.parquet", rows)
    got = figures(look, path, tmp_path, "--tokenizer", tmp_path / "model")
    assert got["unit"] == "tokens"
    assert got["columns"]["query"]["lengths"] == quantiles([6, 2])  # one of them is [CLS]
    assert got["columns"]["pos"]["lengths"] == quantiles([2, 1, 2])


def test_a_tokenizer_that_is_not_there_is_refused(look: Any, write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", [{"query": "a", "pos": ["b"]}])
    done = look(path, "--stats", "--tokenizer", tmp_path)
    assert done.rc == 2
    assert "holds no tokenizer.json" in done.err
    done = look(path, "--stats", "--tokenizer", "nobody/no-model")
    assert done.rc == 2
    assert "nobody/no-model cannot be loaded" in done.err


def test_the_figures_are_shown(look: Any, stored: Any, scored: Any) -> None:
    done = look(stored(scored), "--stats")
    assert done.rc == 0
    for part in ("columns, lengths in characters", "negatives a row", "neg_scores", "by task"):
        assert part in done.text, part
    assert "null in 1 row\n" in done.text
    assert max(map(len, look(stored(scored), "--stats", columns=60).text.splitlines())) <= 60


@pytest.mark.parametrize("name", ["texts", "vectors", "tasks", "measures"])
def test_every_schema_has_figures(name: str, look: Any, tmp_path: Path) -> None:
    from suite import ROOT

    path = ROOT / "schemas" / name / "v1" / "examples" / "full.jsonl"
    got = figures(look, path, tmp_path)
    assert got["schema"] == name
    assert got["rows"] >= 1


# --- distributions -------------------------------------------------------------------------------


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1), st.integers(1, 30))
def test_a_histogram_counts_every_value_in_its_bin(values: list[float], most: int) -> None:
    scores = ScoreValues()
    scores.add(np.array(values, np.float32))
    bins = scores.bins(most)
    assert sum(bin_.count for bin_ in bins) == len(values)
    assert len(bins) <= most + 2
    slack = (bins[0].high - bins[0].low) * 1e-5
    for bin_ in bins:
        inside = [v for v in values if bin_.low - slack <= v <= bin_.high + slack]
        assert bin_.count <= len(inside)


@given(st.lists(st.integers(0, 500), min_size=1))
def test_whole_numbers_keep_their_own_bins(lengths: list[int]) -> None:
    counts = LengthCounts()
    counts.add(np.array(lengths, np.int64))
    bins = counts.bins(12)
    for bin_ in bins:
        assert bin_.count == sum(bin_.low <= length < bin_.high for length in lengths)


@pytest.mark.parametrize("values", [[2.0**64], [-1e30, 1e30], [1e300], [0.0], [1e-300, 2e-300]])
def test_a_histogram_of_any_range_counts_all(values: list[float]) -> None:
    bins = histogram(np.array(values), np.ones(len(values), np.int64), most=12)
    assert sum(bin_.count for bin_ in bins) == len(values)


def test_0_7_as_float32_belongs_to_the_bin_that_begins_at_0_7() -> None:
    values = np.sort(np.array([0.1, 0.7, 0.75, 1.05], np.float32).astype(float))
    bins = histogram(values, np.ones(4, np.int64), most=10)
    assert {bin_.label(whole=False): bin_.count for bin_ in bins if bin_.count} == {
        "0.1 to 0.2": 1,
        "0.7 to 0.8": 2,
        "1 to 1.1": 1,
    }
