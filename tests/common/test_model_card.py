"""Model cards, as the hub reads them and as a page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub")

import markdown_it
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from fletching.train import base_card, card_lineage
from fletching.train import model_card as cards
from fletching.train.base_card import BaseCard, read_base_card

NODE = {
    "tool": "contrast-train",
    "version": "1",
    "options": {"lr": 1e-4, "batch": 16, "lora": True, "model": {"fingerprint": "abc"}},
    "from": [{"tool": "csv2pairs", "options": {"query": "question"}}],
}
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


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


def page_of(card: ModelCard) -> str:
    return markdown_it.MarkdownIt("commonmark").enable("table").render(card.text)


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    card = load(
        tmp_path,
        base=BaseCard(name=MINILM, license="apache-2.0", languages=("en", "de")),
        tags=("distillation",),
        loss="infonce",
        rows=377,
        datasets=["me/faq"],
    )
    assert card.data.library_name == "sentence-transformers"
    assert card.data.pipeline_tag == "sentence-similarity"
    trained = ["generated_from_trainer", "dataset_size:377", "loss:infonce"]
    assert card.data.tags == [*cards.TAGS, *trained, "distillation"]
    assert card.data.base_model == MINILM
    assert card.data.license == "apache-2.0"
    assert card.data.language == ["en", "de"]
    assert card.data.datasets == ["me/faq"]
    assert card.data.eval_results is None


def test_held_out_measures_are_eval_results_with_their_intervals(tmp_path: Path) -> None:
    measures = {"ndcg@10": 0.81239, "mrr": 0.5}
    results = cards.held_out_results(
        measures, dataset="held-out examples", intervals={"ndcg@10": (0.75, 0.86111)}
    )
    card = load(tmp_path, results=results)
    name, parsed = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == card.data.model_name == "tuned"
    values = {result.metric_type: result.metric_value for result in parsed}
    assert values == {"ndcg@10": 0.8124, "mrr": 0.5}
    ends = {result.metric_type: result.metric_args for result in parsed}
    assert ends == {"ndcg@10": {"interval_95": [0.75, 0.8611]}, "mrr": None}
    assert {result.dataset_name for result in parsed} == {"held-out examples"}


def test_a_blend_names_all_its_models(tmp_path: Path) -> None:
    card = load(tmp_path, merged=["me/a", "me/b"])
    assert card.data.base_model == ["me/a", "me/b"]
    assert card.data.base_model_relation == "merge"


def test_datasets_of_the_hub_are_those_among_the_inputs() -> None:
    inputs = ["hf://datasets/me/faq@main/data/a.parquet", "b.parquet", "hf://datasets/me/faq/c"]
    assert cards.hub_datasets(inputs) == ["me/faq"]


# --- the base ------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "./model", "/models/a", "bert-base", "~/models/a", "a/b/c"])
def test_a_base_model_that_is_no_hub_name_is_not_named_as_one(base: str) -> None:
    assert base_card.hub_name(base) == ""


def test_a_relative_folder_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert base_card.hub_name("work/model")
    (tmp_path / "work" / "model").mkdir(parents=True)
    assert not base_card.hub_name("work/model")


CARD = f"""---
language: en
license: apache-2.0
---
# all-MiniLM-L6-v2
model = SentenceTransformer('{MINILM}')
"""


def test_a_folder_is_named_as_its_own_card_loads_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_name_or_path": "nreimers/MiniLM-L6-H384-uncased"}')
    assert read_base_card(str(tmp_path)).name == "nreimers/MiniLM-L6-H384-uncased"
    (tmp_path / "README.md").write_text(CARD)
    base = read_base_card(str(tmp_path))
    assert (base.name, base.license, base.languages) == (MINILM, "apache-2.0", ("en",))
    assert base.restriction == ""
    tuned = f'---\nbase_model: {MINILM}\n---\nSentenceTransformer("tuned")'
    (tmp_path / "README.md").write_text(tuned)
    assert read_base_card(str(tmp_path)).name == MINILM, "the root of a chain of tuned models"
    assert read_base_card(str(tmp_path / "nothing")) == BaseCard()


def test_a_folder_of_the_hubs_cache_has_the_name_of_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / f"models--BAAI--bge-small-en-v1.5/snapshots/{'0a' * 20}"
    folder.mkdir(parents=True)
    assert read_base_card(str(folder)).name == "BAAI/bge-small-en-v1.5"


@pytest.mark.parametrize(
    "text",
    ["", "---\n: [\n---\n", "---\n- a\n---\n", "---\nlicense: [[a]]\nlanguage: {a: b}\n---\n"],
)
def test_a_broken_card_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text)
    assert read_base_card(str(tmp_path)).license == ""


@pytest.mark.parametrize(
    ("front_matter", "words"),
    [
        ({"license": "cc-by-nc-4.0"}, "cc-by-nc-4.0, forbids commercial use"),
        ({"license": "other", "license_name": "gemma"}, "gemma, has conditions of its own"),
        ({"license": "cc-by-nd-4.0"}, "forbids sharing changed versions"),
        ({"license": "llama3.1"}, "has conditions of its own"),
        ({"license": "unknown"}, "licence is unknown"),
    ],
)
def test_a_licence_that_restricts_is_said_in_the_card_and_on_stderr(
    tmp_path: Path, front_matter: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from fletching.report import Report

    (tmp_path / "README.md").write_text(
        f"---\n{json.dumps(front_matter)[1:-1]}\n---\n".replace(", ", "\n")
    )
    base = read_base_card(str(tmp_path))
    assert words in base.restriction
    cards.note_licence(Report("contrast-train"), base)
    assert words in capsys.readouterr().err
    card = load(tmp_path, base=base)
    assert words in card.text and card.data.license == front_matter["license"]


# --- the body ------------------------------------------------------------------------------------


def test_the_body_has_usage_sections_and_lineage_in_this_order(tmp_path: Path) -> None:
    text = load(tmp_path).text
    usage, sections, tools = text.index("encode("), text.index("infonce"), text.index("csv2pairs")
    assert usage < sections < tools


def test_the_lineage_shows_what_differs_from_the_defaults(tmp_path: Path) -> None:
    pytest.importorskip("contrast_train")
    text = load(tmp_path).text
    row = next(line for line in text.splitlines() if line.startswith("| contrast-train"))
    assert row == "| contrast-train | 1 | --batch `16`<br>--lora |"
    assert "| csv2pairs |  | --query `question` |" in text
    assert card_lineage.default_options("pip") == {}, "only packages of the tools are asked"


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
    page = page_of(load(tmp_path, sections=sections, lineage_node=node))
    assert "<script" not in page
    assert "<a " not in page
    assert page.count("<h1>") == 1 and "<h1>tuned</h1>" in page
    assert page.count("<td") == 2 + 2 * 3
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


def log_lines(path: Path, lines: list[tuple[int, str | None, str, float]]) -> str:
    keys = ("step", "split", "name", "value")
    path.write_text("".join(json.dumps(dict(zip(keys, line))) + "\n" for line in lines))
    return str(path)


def test_the_training_log_has_the_mean_loss_since_the_row_above(tmp_path: Path) -> None:
    losses = [(step, None, "loss", float(step)) for step in range(1, 5)]
    measured = [(step, "dev", "ndcg", step / 10) for step in (0, 2, 4)]
    log = log_lines(tmp_path / "log", [*losses, *measured])
    heading, table, note = cards.training_log(log, best_step=2)
    assert heading == "### Training log"
    assert table.splitlines()[2:] == [
        "| 0 |  | 0.0000 |",
        "| **2** | **1.5000** | **0.2000** |",
        "| 4 | 3.5000 | 0.4000 |",
    ]
    assert "The row in bold is the one that was kept" in note
    assert cards.training_log(str(tmp_path / "none")) == []


def test_a_long_run_without_evaluation_is_logged_in_sixteen_rows(tmp_path: Path) -> None:
    losses = [(step, None, "loss", 1.0) for step in range(1, 101)]
    _, table, _ = cards.training_log(log_lines(tmp_path / "log", losses))
    steps = [int(line.split("|")[1]) for line in table.splitlines()[2:]]
    assert len(steps) == 16 and steps[-1] == 100
