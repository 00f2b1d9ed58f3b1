"""The negatives of every way to draw, against a slow reference written from the rules."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairwise import random_units

from fletching import text_keys

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

SEED, TEMPERATURE = 3, 0.2


def text_key(text: str) -> np.uint64:
    return text_keys.hash_texts(pa.array([text], pa.string()))[0]


def noise(row: str, text: str) -> float:
    seed = text_keys.mix(SEED, text_key(row))
    return (int(text_keys.mix(seed, text_key(text))) // 2**11 + 0.5) / 2**53


def dot(vectors: dict[str, np.ndarray], left: str, right: str) -> np.float32:
    return np.einsum("nd,nd->n", vectors[left][None], vectors[right][None])[0]


def reference(
    row: dict, pool: list[str], vectors: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[list[str], Counter]:
    """(negatives, nearest first; what each guard was the first to reject) of one row."""
    removed: Counter = Counter()
    score = {text: dot(vectors, row["query"], text) for text in pool}
    lowest = min(score[text] for text in row["pos"])
    bound = lowest - np.float32(1 - options["ratio"]) * abs(lowest)
    ranked, in_range = 0, []
    for text in sorted(pool, key=lambda text: -score[text]):
        if ranked == options["high"]:
            break
        if text in row["pos"]:
            removed["positive or copy"] += 1
            continue
        ranked += 1
        if ranked < options["low"]:
            continue
        if score[text] > bound:
            removed["above --max-ratio"] += 1
            continue
        in_range.append(text)
    order = {
        "top": lambda text: -score[text],
        "random": lambda text: noise(row["id"], text),
        "weighted": lambda text: (
            np.log(-np.log(noise(row["id"], text))) - float(score[text]) / TEMPERATURE
        ),
    }[options["sample"]]
    chosen: list[str] = []
    for text in sorted(in_range, key=order):
        if len(chosen) == options["count"]:
            break
        if max(dot(vectors, text, positive) for positive in row["pos"]) >= options["copy"]:
            removed["near copy of a positive"] += 1
        else:
            chosen.append(text)
    return sorted(chosen, key=lambda text: -score[text]), removed


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 999),
    sample=st.sampled_from(["top", "random", "weighted"]),
    low=st.integers(1, 5),
    width=st.integers(4, 30),
    block=st.sampled_from([1, 50, 1 << 19]),
)
def test_every_draw_is_the_one_of_the_rules(
    run_hnmine, monkeypatch, seed, sample, low, width, block
):
    monkeypatch.setattr("hnmine.domain_search.CANDIDATES", block)
    names = [f"q{i}" for i in range(15)] + [f"t{i}" for i in range(60)]
    vectors = dict(zip(names, random_units(len(names), 4, seed)))
    draw = np.random.default_rng(seed)
    rows = [
        {"id": f"r{i}", "query": f"q{i}", "pos": sorted({f"t{j}" for j in draw.integers(0, 60, 3)})}
        for i in range(15)
    ]
    pool = [f"t{i}" for i in range(60)]
    options = {
        "sample": sample,
        "low": low,
        "high": low + width - 1,
        "ratio": 0.9,
        "copy": 0.7,
        "count": 4,
    }
    words = ["--sample", sample, "--range", f"{low}-{low + width - 1}", "--seed", SEED]
    words += ["--max-ratio", 0.9, "--near-copy", 0.7, "--negatives", 4]
    words += ["--sample-temperature", TEMPERATURE]
    corpus = [{"text": text} for text in pool]
    mined, summary = run_hnmine(rows, vectors, *words, corpus=corpus)
    removed: Counter = Counter()
    for row, written in zip(rows, mined):
        expected, counts = reference(row, pool, vectors, options)
        removed += counts
        assert written["neg"] == expected
        scores = [dot(vectors, row["query"], text) for text in expected]
        assert written["neg_scores"] == pytest.approx(scores, abs=1e-6)
    guards = summary["measures"]["removed_by_guard"]
    assert {name: guards.get(name, 0) for name in removed} == removed
