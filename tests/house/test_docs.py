"""Pages for people and agents name only commands, options and files that are there."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
import recipe_costs
import yaml
from suite import PROGRAMS, ROOT

from fletching import config
from fletching.options import describe

PAGES = [
    ROOT / name
    for name in (
        "README.md", "SKILL.md", "docs/start.md", "docs/choosing.md", "docs/troubleshooting.md",
        "docs/faq.md", "docs/pages.md", "docs/recipes.md",
    )
]  # fmt: skip
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
SKILL = (ROOT / "SKILL.md").read_text("utf-8")
OTHERS = {"--help", "--help-all", "--version", "--nproc-per-node"}


def options_of(program: str) -> set[str]:
    tool = importlib.import_module(f"{PROGRAMS[program].module}.cli").TOOL
    flags = {option.flag for option in describe(tool.options).values()}
    short = {option.details["short"] for option in describe(tool.options).values()}
    return flags | short | {flag.replace("--", "--no-", 1) for flag in flags} | OTHERS


def commands_in(text: str) -> list[list[str]]:
    """Command lines of code blocks and spans, one for each stage of a pipe, as words."""
    text = text.replace("\\\n", " ").replace("\\|", "|")
    code = re.findall(r"```(?:sh)?\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text)
    lines = [
        stage for block in code for line in block.splitlines() for stage in re.split(r"[|;]", line)
    ]
    commands = []
    for line in lines:
        words = shlex.split(line.replace("'", "").replace('"', ""), comments=True)
        if words[:1] == ["fletching"] and len(words) > 1:
            words[:2] = [f"fletching-{words[1]}"]
        if words[:1] == ["torchrun"]:
            words = [word for word in words if not word.startswith("$(which")]
            words[0] = "contrast-train"
        if words and words[0] in PROGRAMS:
            commands.append(words)
    return commands


@every_page
def test_commands_have_the_options_that_a_page_names(page: Path) -> None:
    for words in commands_in(page.read_text("utf-8")):
        known = options_of(words[0])
        for word in words[1:]:
            if re.fullmatch(r"--?[a-z][a-z0-9-]*", word):
                assert word in known, f"{page.name}: {' '.join(words)}"


@every_page
def test_every_option_of_a_page_is_one_of_a_program(page: Path) -> None:
    known = set().union(*(options_of(name) for name in PROGRAMS))
    for span in re.findall(r"`([^`\n]+)`", page.read_text("utf-8")):
        if not re.match(r"pip|git|python|docker|make", span):
            for flag in re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)", span):
                assert flag in known, f"{page.name}: {span}"


@every_page
def test_local_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@every_page
def test_results_and_examples_that_a_page_names_are_there(page: Path) -> None:
    pattern = r"`[^`\n]*?\b((?:bench/results|examples|schemas)/[\w./-]*\w)[^`\n]*`"
    for name in re.findall(pattern, page.read_text("utf-8")):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_skill_has_a_name_and_says_when_to_use_it() -> None:
    _, front, body = SKILL.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert re.fullmatch(r"[a-z0-9-]{1,64}", fields["name"])
    assert "Use it to" in fields["description"] and len(fields["description"]) <= 1024
    assert len(body.splitlines()) < 500
    for name in PROGRAMS:
        assert name in SKILL.replace("fletching ", "fletching-"), name


def test_the_library_carries_the_skill() -> None:
    packaged = ROOT / "libs" / "common" / "src" / "fletching" / "SKILL.md"
    assert packaged.read_text("utf-8") == SKILL


@pytest.mark.parametrize("model", recipe_costs.MODELS, ids=lambda model: model.name)
def test_a_recipe_is_a_config_of_contrast_train(model: recipe_costs.ModelShape) -> None:
    path = ROOT / "examples" / "recipes" / model.recipe
    recipe = json.loads(path.read_text("utf-8"))
    assert model.name.split("/")[0] == recipe["model"].split("/")[0]
    options = describe(importlib.import_module("contrast_train.cli").TOOL.options)
    values = config.load(str(path), options)
    assert len(values) == len(recipe)


# Of the model cards, in millions.
PUBLISHED = {
    "all-MiniLM-L6-v2": 22.7, "bge-small-en-v1.5": 33.4, "bge-base-en-v1.5": 109, "e5-base-v2": 109,
    "gte-modernbert-base": 149, "embeddinggemma-300m": 308, "Qwen3-Embedding-0.6B": 596,
}  # fmt: skip


def test_computed_shapes_have_the_published_number_of_parameters() -> None:
    for model in recipe_costs.MODELS:
        published = PUBLISHED[model.name.split("/")[1]]
        assert model.parameters / 1e6 == pytest.approx(published, rel=0.01)
