"""The card of the winner: the trial's figures for the hub, and the kinds of queries where it fails."""

from __future__ import annotations

import polars as pl
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from fletching_tune import winner_card as cards
from fletching_tune.selection import Gain

CARD = """---
license: apache-2.0
tags:
- sentence-transformers
model-index:
- name: lr-1
  results:
  - task:
      type: sentence-similarity
    dataset:
      name: held-out examples
      type: held-out
    metrics:
    - type: ndcg_at_10
      value: 0.9
---

# lr-1

model = SentenceTransformer("lr-1")
vllm serve lr-1 --runner pooling
"""


def queries(values: dict[str, tuple[float, float]]) -> pl.DataFrame:
    """Rows of base and tuned by query: (base, tuned); each has one answer of the word `answer`."""
    rows = []
    for number, (query, scores) in enumerate(values.items()):
        for run, value in zip(("base", "tuned"), scores):
            rows.append(
                {
                    "query_id": str(number),
                    "run": run,
                    "value": value,
                    "query": query,
                    "relevant_ids": ["d"],
                    "relevant_texts": ["the answer"],
                }
            )
    return pl.DataFrame(rows)


def gain(value: float, low: float, high: float) -> Gain:
    return Gain(value=value, low=low, high=high)


def test_kinds_are_the_worst_first_and_quote_no_query() -> None:
    short = {f"answer {chr(97 + n)}": (0.5, 0.75) for n in range(5)}
    numbered = {f"secret words that ask about case number {n}": (0.5, 0.25) for n in range(6)}
    kinds = cards.query_kinds(queries(short | numbered | {"alone": (0.0, 0.0)}), "tuned")
    found = {kind.name: (kind.queries, kind.base, kind.tuned) for kind in kinds}
    assert found["with a number"] == (6, 0.5, 0.25)
    assert found["of 4 to 8 words"] == (6, 0.5, 0.25)
    assert found["that share no word with an answer"][0] == 7
    assert found["of up to 3 words"][0] == 6
    assert "with several answers" not in found, "fewer than five queries show nothing"
    values = [kind.tuned for kind in kinds]
    assert values == sorted(values)
    figures = cards.TrialFigures(
        base=gain(0.5, 0.4, 0.6), tuned=gain(0.6, 0.5, 0.7), change=gain(0.1, 0, 0.2), kinds=kinds
    )
    section = cards.kinds_section(figures)
    assert "Worse than the base on: " in section and "with a number" in section
    assert "secret" not in section


def test_the_hub_reads_the_trials_figures_and_not_those_that_chose_the_model() -> None:
    figures = cards.TrialFigures(
        base=gain(0.5, 0.4, 0.6), tuned=gain(0.61234, 0.51, 0.7), change=gain(0.1, 0, 0.2)
    )
    text = cards.winner_card(CARD, name="faq", folder="lr-1", figures=figures, section="\n## More")
    card = ModelCard(text)
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    [result] = results
    assert name == "faq"
    assert (result.dataset_name, result.metric_type) == ("held-out test rows", "ndcg_at_10")
    assert result.metric_value == 0.6123 and result.metric_args == {"interval_95": [0.51, 0.7]}
    assert card.data.license == "apache-2.0" and card.data.tags == ["sentence-transformers"]
    assert "# faq\n" in text and 'SentenceTransformer("faq")' in text and "vllm serve faq" in text
    assert "lr-1" not in text and text.rstrip().endswith("## More")


def test_a_card_without_front_matter_stays_one() -> None:
    text = cards.winner_card("# lr-1\n", name="faq", folder="lr-1", figures=None, section="\nmore")
    assert text == "# faq\n\nmore"
