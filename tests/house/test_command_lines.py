"""What --help costs, shows and imports; one meaning for one option name in all tools."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from conftest import environment
from source_tree import third_party
from suite import PROGRAMS, Command

from fletching import cli
from fletching.options import REQUIRED, Option, StandardOptions, describe
from fletching.parsing import parse

every_tool = pytest.mark.parametrize("command", PROGRAMS.values(), ids=PROGRAMS.keys())
HEAVY = {
    "accelerate", "datasets", "faiss", "jinja2", "mteb", "numpy", "openai", "pandas", "peft",
    "polars", "pyarrow", "scipy", "sentence_transformers", "torch", "transformers",
}  # fmt: skip


MORE = r"(?: {9}.+\n)*"  # lines that continue an entry


def tool_of(command: Command) -> cli.Tool:
    return importlib.import_module(f"{command.module}.cli").TOOL


def options_of(command: Command) -> dict[str, Option]:
    return describe(tool_of(command).options)


# --- help ----------------------------------------------------------------------------------------


@every_tool
def test_the_command_line_of_a_tool_imports_nothing_heavy_at_its_top(command: Command) -> None:
    for name in ("cli.py", "options.py", "__init__.py"):
        path = command.folder / "src" / command.module / name
        assert not third_party(path, top_level_only=True) & HEAVY, path


@every_tool
def test_help_imports_nothing_heavy(command: Command) -> None:
    probe = (
        f"import sys, {command.module}.cli as tool\n"
        "code = tool.main(['--help'])\n"
        "print(*sys.modules, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, env=environment(), check=True
    )
    assert not {name.split(".")[0] for name in done.stderr.split()} & HEAVY


def cpu_seconds(*argv: str) -> float:
    """Processor time of a child process, which other processes of the machine hardly change."""
    before = os.times()
    subprocess.run(argv, capture_output=True, check=True, env=environment())
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


@pytest.mark.slow
@every_tool
def test_help_comes_within_150_ms_of_bare_python(command: Command) -> None:
    bare, helped = [], []
    for _ in range(5):
        bare.append(cpu_seconds(sys.executable, "-c", "pass"))
        helped.append(cpu_seconds(command.name, "--help"))
    assert statistics.median(helped) - statistics.median(bare) < 0.15


@every_tool
def test_help_fits_a_screen_and_a_half(command: Command, run: Any) -> None:
    lines = run([command.name, "--help"]).text.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100, [line for line in lines if len(line) > 100]


@every_tool
def test_help_all_lists_every_option_once_within_100_columns(command: Command, run: Any) -> None:
    text = run([command.name, "--help-all"]).text
    for option in options_of(command).values():
        name = re.escape(option.metavar if option.positional else option.flag)
        head = name.replace(r"\-\-", r"\-\-(?:no\-)?", 1)
        entries = re.findall(rf"^  (?:-\w, )?{head}(?=\s|$)", text, re.MULTILINE)
        assert len(entries) == 1, option.flag
    assert max(map(len, text.splitlines())) <= 100


@every_tool
def test_help_says_what_is_read_written_and_held_and_shows_a_command(command: Command) -> None:
    doc = tool_of(command).doc.strip()
    assert re.match(
        rf"{command.name}: .+\.\n\nReads    .+\n{MORE}Writes   .+\n{MORE}Holds    .+", doc
    )
    assert f"\n  {command.name} " in doc


@every_tool
def test_help_speaks_the_language_of_the_field(command: Command) -> None:
    """Words of a private dialect that once stood in help texts."""
    dialect = r"\b(shall|told|but for|goes on from|of its own|held against|matrices beside|asked)\b"
    for option in options_of(command).values():
        assert not re.search(dialect, option.details["help"]), option.flag
    assert not re.search(dialect, tool_of(command).doc), command.name


# --- options -------------------------------------------------------------------------------------

# One name, two things: names that the design fixes for users' Makefiles. None may be added.
HOMONYMS = {
    "bm25": "hnmine: candidates are ranked by words; mteb-eval: BM25 is compared",
    "candidates": "contrast-train: which negatives; fletching-tune: which recipes are trained",
    "dry_run": "the plan without the work; each tool says what its plan holds",
    "dtype": "of the weights while a tool computes; fletching-export: of those that it writes",
    "html": "one page: mteb-eval's compares models, arrowcat's shows rows",
    "inputs": "the arguments without a flag: what a tool reads",
    "output": "rows as a file or stream; the folder of a model; the figures of mteb-eval",
    "max_tokens": "synthgen: cap on the tokens of a job; docs2texts: the longest text",
    "model": "an embedding model; the LLM of synthgen; the decoder of mntp; tokens, for docs2texts",
    "negatives": "csv2pairs, hnmine: how many are written; contrast-train: how many are used",
    "require_gain": "mteb-eval: METRIC=X; fletching-tune: the verdict must be WIN",
    "sample": "arrowcat: how many rows are drawn; hnmine: how negatives are chosen",
    "split": "csv2pairs: shares of the splits",
    "tasks": "contrast-train: file of weights and prompts; mteb-eval: names of benchmark tasks",
    "to": "arrowcat: a row format; fletching-tune: the last stage; "
    "fletching-export: a graph format",
}


def traits(option: Option) -> dict[str, Any]:
    """What must be equal wherever an option of one name occurs."""
    return {
        "metavar": option.metavar,
        "short": option.details.get("short"),
        "type": option.scalar,
        "rows": option.details["rows"],
        "default": option.default,
        "help": option.details["help"],
    }


def test_an_option_of_one_name_is_the_same_in_all_tools() -> None:
    """Equal metavar, type, default and help; `override` states a difference and its reason."""
    shared: dict[str, tuple[str, dict[str, Any]]] = {}
    for command in PROGRAMS.values():
        for name, option in options_of(command).items():
            if name in HOMONYMS:
                continue
            if "because" in option.details:
                assert len(option.details["because"]) > 10, f"{command.name} {option.flag}"
                continue
            first, known = shared.setdefault(name, (command.name, traits(option)))
            assert traits(option) == known, f"{option.flag} of {command.name} and of {first}"


def test_an_override_differs_from_what_it_overrides() -> None:
    for command in PROGRAMS.values():
        cls = tool_of(command).options
        for name, option in options_of(command).items():
            if "because" not in option.details:
                continue
            parents = [
                base.__dataclass_fields__[name]
                for base in cls.__mro__[1:]
                if name in getattr(base, "__dataclass_fields__", {})
            ]
            # A group of options may override what its own groups have, for all that inherit it.
            because = option.details["because"]
            parents = [each for each in parents if each.metadata.get("because") != because]
            assert parents, f"{command.name} {option.flag} overrides nothing"
            same_default = parents[0].default == option.default
            same_help = parents[0].metadata["help"] == option.details["help"]
            assert not (same_default and same_help), f"{command.name} {option.flag}"


def test_every_homonym_still_is_one() -> None:
    helps: dict[str, set[str]] = defaultdict(set)
    for command in PROGRAMS.values():
        for name, option in options_of(command).items():
            helps[name].add(option.details["help"])
    for name in set(HOMONYMS) - {"split"}:
        assert len(helps[name]) > 1, name


@every_tool
def test_every_tool_has_the_options_of_all_tools(command: Command) -> None:
    options = options_of(command)
    assert {field.name for field in dataclasses.fields(StandardOptions)} <= set(options)
    assert (options["quiet"].details["short"], options["verbose"].details["short"]) == ("-q", "-v")
    assert tool_of(command).check is not None, "--dry-run calls it"
    assert options["output"].details["written"], "--dry-run says what would be written"
    assert "limit" in options or command.reads == "models"
    assert options["output"].details["short"] == "-o"
    if command.reads in ("examples", "texts"):
        draws_nothing = command.name in ("simfilter", "texts2vectors")
        assert "seed" in options or draws_nothing


@every_tool
def test_option_names_are_words_and_short_forms_are_not_used_twice(command: Command) -> None:
    options = options_of(command).values()
    shorts = [option.details["short"] for option in options if option.details.get("short")]
    assert len(shorts) == len(set(shorts))
    for option in options:
        assert re.fullmatch(r"--[a-z0-9]+(-[a-z0-9]+)*", option.flag)
        assert option.details["help"], option.flag
        assert not option.details["help"].endswith("."), option.flag


@every_tool
def test_options_are_made_by_name(command: Command) -> None:
    assert dataclasses.is_dataclass(tool_of(command).options)
    assert all(field.kw_only for field in dataclasses.fields(tool_of(command).options))


TRAINERS = [name for name, command in PROGRAMS.items() if "epochs" in options_of(command)]


@pytest.mark.parametrize(("config", "line"), [("epochs", "steps"), ("steps", "epochs")])
@pytest.mark.parametrize("name", TRAINERS)
def test_how_long_to_train_on_the_line_wins_over_the_config(
    name: str, config: str, line: str, tmp_path: Path
) -> None:
    options = tool_of(PROGRAMS[name]).options
    (tmp_path / "c.json").write_text(f'{{"{config}": 7}}')
    required = [opt.flag for opt in describe(options).values() if opt.default is REQUIRED]
    words = [word for flag in required for word in (flag, "x")]
    parsed = parse(options, [*words, "--config", str(tmp_path / "c.json"), f"--{line}", "3"])
    assert getattr(parsed, line) == 3
    assert getattr(parsed, config) == getattr(parse(options, words), config)
