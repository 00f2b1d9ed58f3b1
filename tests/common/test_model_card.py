"""Model cards, as the hub reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub")

import markdown_it
from huggingface_hub import ModelCard

from fletching.train import model_card as cards

NODE = {
    "tool": "contrast-train",
    "version": "1",
    "options": {"lr": 1e-4},
    "from": [{"tool": "csv2pairs"}],
}


def load(folder: Path, **content: Any) -> ModelCard:
    """The card of a model named `tuned`, written and parsed again."""
    fields = {
        "name": "tuned",
        "summary": "A model.",
        "usage": "vectors = model.encode([...])",
        "sections": ["## Training", "Loss: infonce."],
        "lineage_node": NODE,
    }
    path = folder / "README.md"
    path.write_text(cards.CardContent(**fields | content).render(), encoding="utf-8")
    return ModelCard.load(path)


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    card = load(tmp_path, base="sentence-transformers/all-MiniLM-L6-v2", tags=("distillation",))
    assert card.data.library_name == "sentence-transformers"
    assert card.data.pipeline_tag == "sentence-similarity"
    assert card.data.tags == [*cards.TAGS, "distillation"]
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.eval_results is None


def test_held_out_measures_are_eval_results(tmp_path: Path) -> None:
    measures = {"ndcg@10": 0.81239, "mrr": 0.5}
    results = cards.held_out_results(measures, dataset="held-out examples")
    card = load(tmp_path, results=results)
    assert card.data.model_name == "tuned"
    parsed = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert parsed == {"ndcg@10": 0.8124, "mrr": 0.5}
    assert {result.dataset_name for result in card.data.eval_results} == {"held-out examples"}


@pytest.mark.parametrize("base", ["", "./model", "/models/a", "bert-base", "~/models/a"])
def test_a_base_model_that_is_no_hub_name_is_not_named_as_one(tmp_path: Path, base: str) -> None:
    assert load(tmp_path, base=base).data.base_model is None


def test_a_relative_folder_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cards.is_hub_name("work/model")
    (tmp_path / "work" / "model").mkdir(parents=True)
    assert not cards.is_hub_name("work/model")


def test_the_body_has_usage_sections_and_lineage_in_this_order(tmp_path: Path) -> None:
    text = load(tmp_path).text
    usage, sections, tools = text.index("encode("), text.index("infonce"), text.index("csv2pairs →")
    assert usage < sections < tools
    block = text.split("```json\n")[1].split("\n```")[0]
    assert json.loads(block) == NODE


def test_braces_and_rules_in_a_section_are_kept(tmp_path: Path) -> None:
    section = 'prompt: `"{query} ---"`\n\n---\n\nend'
    assert section in load(tmp_path, sections=[section]).text


MARKUP = "a</code><script>alert(1)</script>`` ` | [x](javascript:alert(1))\x1b[2J\n# b\u202e```"


def test_markup_in_the_data_stays_text(tmp_path: Path) -> None:
    """Names of tools in a foreign stamp, prompts of rows, names of tasks."""
    sections = [
        *cards.prompts_section({"query": MARKUP}),
        *cards.measures_section("Held-out", {MARKUP: {"mrr": 0.5}}, label="task"),
    ]
    node = {"tool": MARKUP, "options": {MARKUP: MARKUP}, "from": [{"tool": MARKUP}]}
    card = load(tmp_path, sections=sections, lineage_node=node)
    page = markdown_it.MarkdownIt("commonmark").enable("table").render(card.content)
    assert "<script" not in page
    assert "<a " not in page
    assert page.count("<h1>") == 1 and "<h1>tuned</h1>" in page
    assert page.count("<td") == 2
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", page)
    assert page.count("alert(1)") >= 5


def test_empty_prompts_and_measures_make_no_section() -> None:
    assert cards.prompts_section({"query": "", "document": ""}) == []
    assert cards.measures_section("Held-out quality", {}, label="model") == []


def test_measures_are_a_table() -> None:
    rows = {"base": {"mrr": 0.5}, "tuned": {"mrr": 0.75}}
    heading, table = cards.measures_section("Held-out quality", rows, label="model")
    assert heading == "## Held-out quality"
    assert table.splitlines()[1:] == ["|---|---|", "| base | 0.5000 |", "| tuned | 0.7500 |"]
