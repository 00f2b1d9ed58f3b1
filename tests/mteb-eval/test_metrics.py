"""The registry of metrics: names in both spellings, and a toy metric through the whole command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mteb_eval.scoring import metrics
from mteb_eval.scoring.metrics import Metric


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nDCG@10", "ndcg_at_10"),
        ("ndcg_at_10", "ndcg_at_10"),
        ("HitRate@5", "hit_rate_at_5"),
        ("hit_rate@5", "hit_rate_at_5"),
        ("spearman", "cosine_spearman"),
        ("ap", "cosine_ap"),
        ("accuracy", "accuracy"),
        ("MRR", "MRR"),  # without a depth it is neither of the two that have this spelling
        ("spearman@3", "spearman_at_3"),
    ],
)
def test_a_metric_is_known_by_both_of_its_spellings(text, name):
    assert metrics.parse_metric(text) == name


def test_every_name_is_spelled_as_papers_write_it_and_read_back():
    for metric in metrics.METRICS.values():
        for name in metric.names:
            spelling = metrics.spell_metric(name)
            assert metrics.find_metric(name) is metric
            if spelling != "MRR":
                assert metrics.parse_metric(spelling) == name
    assert metrics.spell_metric("v_measure") == "v_measure"
    assert metrics.find_metric("ndcg") is None  # it has depths


@pytest.fixture
def toy_metric():
    """The rank of the first relevant document, of which less is better, registered for one test."""
    metric = Metric(
        key="first_rank",
        spelling="Rank",
        per_query=lambda query, depth: float(query.first_rank),
        higher_is_better=False,
    )
    metrics.register(metric)
    yield metric
    del metrics.METRICS._entries[metric.key]


def test_a_metric_that_is_registered_goes_through_the_whole_command(
    toy_metric,
    model,
    destroyed,
    evaluate,
    measures,
    examples,
    write,
    monkeypatch,
):
    command = [
        f"base={model}",
        f"tuned={destroyed}",
        "--examples",
        f"faq={write('t.jsonl', examples)}",
        "--metrics",
        "rank,ndcg_at_10",
        "--results",
        "results",
        "-o",
        "out.jsonl",
        "--html",
        "page.html",
    ]
    monkeypatch.setenv("COLUMNS", "200")  # a narrower table leaves intervals out
    ran = evaluate(*command)
    assert ran.rc == 0, ran.err
    (line,) = (line for line in ran.text.splitlines() if line.startswith("  Rank"))
    number = r"\d+\.\d{3}"
    interval = rf"{number} \[{number}, {number}\]"
    assert re.match(rf"  Rank +{interval} +{interval} +\+.* worse, p < 0\.001", line)
    row = measures("out.jsonl")["tuned", "faq", "first_rank"]
    assert row["low"] < row["value"] < row["high"]
    assert ">Rank<" in Path("page.html").read_text("utf-8")
    # a higher rank is a loss, which the quality gate knows
    demanded = evaluate(*command, "--require-gain", "first_rank=0")
    assert demanded.rc == 1
    assert "taken from results" in demanded.err
    assert "tuned changes Rank on faq by +" in demanded.err


def test_a_metric_of_pairs_that_is_registered_has_an_interval_too(model, evaluate, measures):
    metric = Metric(
        key="cosine_gap",
        spelling="Gap",
        of_pairs=lambda labels, cosines: float((2 * labels - 1) @ cosines / len(labels)),
    )
    metrics.register(metric)
    try:
        Path("p.csv").write_text("an owl,owls,1\nbread,iron,0\ntide,sea,1\nchess,opera,0\n")
        ran = evaluate(f"m={model}", "--pairs", "p.csv", "--metrics", "gap", "-o", "out.jsonl")
    finally:
        del metrics.METRICS._entries[metric.key]
    assert ran.rc == 0, ran.err
    assert "Gap" in ran.text
    assert "low" in measures("out.jsonl")["m", "p", "cosine_gap"]
