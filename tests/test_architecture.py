"""The rules of the house: who imports whom, what stands where, what --help costs, and one meaning for one option name."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from suite import COMMANDS, ROOT, Command

from fletching import cli
from fletching.options import REQUIRED, describe
from fletching.parsing import parse

every_tool = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
COMMON = ROOT / "libs" / "common"
MODULES = {command.module for command in COMMANDS.values()}
HEAVY = {
    "pyarrow",
    "numpy",
    "polars",
    "pandas",
    "torch",
    "transformers",
    "sentence_transformers",
    "datasets",
    "mteb",
    "faiss",
    "peft",
    "accelerate",
    "openai",
}
VAGUE = {"utils", "util", "helpers", "helper", "misc", "core", "manager", "base", "common"}
# Distributions whose modules have other names.
NAMES = {"yaml": "pyyaml", "faiss": "faiss-cpu", "zmq": "pyzmq", "sklearn": "scikit-learn"}


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "src").rglob("*.py") if "egg-info" not in str(path))


def imported(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The full names that a file imports; those for type checkers alone are left out."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes: Iterator[ast.AST] = iter(tree.body) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def roots(path: Path, top_level_only: bool = False) -> set[str]:
    return {name.split(".")[0] for name in imported(path, top_level_only)} - set(
        sys.stdlib_module_names
    )


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def requirements(folder: Path) -> list[Requirement]:
    content = project(folder)
    extras = [line for lines in content.get("optional-dependencies", {}).values() for line in lines]
    return [Requirement(line) for line in content["dependencies"] + extras]


# --- imports -------------------------------------------------------------------------------------


@every_tool
def test_a_tool_imports_the_standard_library_fletching_what_it_declares_and_itself(
    command: Command,
) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements(command.folder)}
    for path in sources(command.folder):
        for name in roots(path) - {command.module}:
            assert name not in MODULES, f"{path} imports another tool: {name}"
            assert canonicalize_name(NAMES.get(name, name)) in declared, (
                f"{path} imports {name}, which {command.name} does not declare"
            )


@every_tool
def test_what_a_tool_declares_is_used(command: Command) -> None:
    used = {
        canonicalize_name(NAMES.get(name, name))
        for path in sources(command.folder)
        for name in roots(path)
    }
    # What transformers' Trainer imports for us stands in no import of ours.
    indirect = {"accelerate", "datasets", "peft"} if "transformers" in used else set()
    assert {
        canonicalize_name(requirement.name) for requirement in requirements(command.folder)
    } - used - indirect == set()


def test_fletching_imports_no_tool_and_only_what_it_declares() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements(COMMON)}
    for path in sources(COMMON):
        for name in roots(path) - {"fletching"}:
            assert name not in MODULES, f"{path} imports a tool: {name}"
            assert canonicalize_name(NAMES.get(name, name)) in declared, f"{path} imports {name}"


def test_what_tests_and_benchmarks_import_is_declared() -> None:
    """A package that happens to be on the author's machine is missing in a fresh clone."""
    folders = [ROOT, COMMON, *(command.folder for command in COMMANDS.values())]
    declared = {
        canonicalize_name(requirement.name)
        for folder in folders
        for requirement in requirements(folder)
    }
    ours = {
        path.stem for room in ("tests", "bench", "examples") for path in (ROOT / room).rglob("*.py")
    } | MODULES
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        for name in roots(path) - ours - {"fletching"}:
            assert canonicalize_name(NAMES.get(name, name)) in declared, (
                f"{path} imports {name}, which no pyproject.toml declares"
            )


def test_only_the_encoder_and_the_trainer_of_fletching_import_torch() -> None:
    for path in sources(COMMON):
        if not {"encode", "train"} & set(path.parts):
            assert not roots(path) & {"torch", "transformers", "sentence_transformers"}, path


@every_tool
def test_the_command_line_of_a_tool_imports_nothing_heavy_at_its_top(command: Command) -> None:
    for path in [
        command.folder / "src" / command.module / "cli.py",
        command.folder / "src" / command.module / "__init__.py",
    ]:
        assert not roots(path, top_level_only=True) & HEAVY, path


@every_tool
def test_help_imports_nothing_heavy(command: Command) -> None:
    probe = f"import sys, {command.module}.cli as tool\ncode = tool.main(['--help'])\nprint(*sys.modules, file=sys.stderr)\nsys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, env=environment(), check=True
    )
    assert not {name.split(".")[0] for name in done.stderr.split()} & HEAVY


def seconds(*argv: str) -> float:
    """Time of a child process on the processor, which other processes of the machine hardly change."""
    before = os.times()
    subprocess.run(argv, capture_output=True, check=True, env=environment())
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


@every_tool
def test_help_comes_within_150_ms_of_bare_python(command: Command) -> None:
    bare, helped = [], []
    for _ in range(7):
        bare.append(seconds(sys.executable, "-c", "pass"))
        helped.append(seconds(command.name, "--help"))
    assert statistics.median(helped) - statistics.median(bare) < 0.15


# --- help and options ----------------------------------------------------------------------------


def tool(command: Command) -> cli.Tool:
    return importlib.import_module(f"{command.module}.cli").TOOL


@every_tool
def test_help_fits_a_screen_and_a_half(command: Command, run: Any) -> None:
    lines = run([command.name, "--help"]).text.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100, [line for line in lines if len(line) > 100]


@every_tool
def test_help_all_lists_every_option_once_within_100_columns(command: Command, run: Any) -> None:
    text = run([command.name, "--help-all"]).text
    for option in describe(tool(command).options).values():
        head = re.escape(option.metavar if option.positional else option.flag).replace(
            r"\-\-", r"\-\-(?:no\-)?", 1
        )
        assert len(re.findall(rf"^  (?:-\w, )?{head}(?=\s|$)", text, re.MULTILINE)) == 1, (
            option.flag
        )
    assert max(map(len, text.splitlines())) <= 100


@every_tool
def test_help_says_what_is_read_written_and_held_and_shows_a_command(command: Command) -> None:
    doc = tool(command).doc.strip()
    assert re.match(rf"{command.name}: .+\.\n\nReads    .+\nWrites   .+\nHolds    .+", doc)
    assert f"\n  {command.name} " in doc


# One name, two meanings. Each of these is a debt; none may be added.
HOMONYMS = {
    "batch": "contrast-train: rows of a global batch; synthgen: the service that OpenAI calls Batch",
    "keep": "csv2pairs: columns to pass through; contrast-train: checkpoints kept",
    "positives": "csv2pairs: how many are drawn; contrast-train: which ones are used",
    "tasks": "contrast-train: file of weights and prompts; mteb-eval: names of benchmark tasks",
    "split": "csv2pairs: shares of the splits; mteb-eval: name of one split",
    "candidates": "contrast-train: which documents are negatives; mteb-eval: size of the block that is ranked",
}


def test_an_option_of_one_name_is_the_same_in_all_tools() -> None:
    """Same metavar, short form, kind of value, and the same answer to whether it changes rows."""
    first: dict[str, tuple[str, Any]] = {}
    for command in COMMANDS.values():
        for name, option in describe(tool(command).options).items():
            if option.positional or name in HOMONYMS:
                continue
            metavar = "OUT" if name == "output" and option.metavar == "DIR" else option.metavar
            traits = (metavar, option.details.get("short"), option.scalar, option.details["rows"])
            before, known = first.setdefault(name, (command.name, traits))
            assert traits == known, f"--{name} of {command.name} and of {before}"


def test_every_homonym_still_is_one() -> None:
    every = [describe(tool(command).options) for command in COMMANDS.values()]
    for name in HOMONYMS:
        assert len({options[name].details["help"] for options in every if name in options}) > 1, (
            name
        )


@every_tool
def test_every_tool_has_the_options_of_all_tools(command: Command) -> None:
    options = describe(tool(command).options)
    assert {"config", "quiet", "json_summary", "limit"} <= set(options)
    assert options["output"].details["short"] == "-o"
    if command.reads in ("examples", "texts"):
        assert "seed" in options or command.name == "simfilter"  # which draws nothing


@every_tool
def test_option_names_are_words_and_short_forms_are_not_used_twice(command: Command) -> None:
    options = describe(tool(command).options).values()
    shorts = [option.details["short"] for option in options if option.details.get("short")]
    assert len(shorts) == len(set(shorts))
    for option in options:
        assert re.fullmatch(r"--[a-z0-9]+(-[a-z0-9]+)*", option.flag)
        assert option.details["help"], option.flag
        assert not option.details["help"].endswith("."), option.flag


TRAINERS = [
    command
    for command in COMMANDS.values()
    if {"epochs", "steps"} <= set(describe(tool(command).options))
]


@pytest.mark.parametrize(("config", "line"), [("epochs", "steps"), ("steps", "epochs")])
@pytest.mark.parametrize("command", TRAINERS, ids=[command.name for command in TRAINERS])
def test_how_long_to_train_on_the_line_wins_over_the_config(
    command: Command, config: str, line: str, tmp_path: Path
) -> None:
    options = tool(command).options
    (tmp_path / "c.json").write_text(f'{{"{config}": 7}}')
    words = [
        word
        for opt in describe(options).values()
        if opt.default is REQUIRED
        for word in (opt.flag, "x")
    ]
    made = parse(options, [*words, "--config", str(tmp_path / "c.json"), f"--{line}", "3"])
    assert getattr(made, line) == 3
    assert getattr(made, config) == getattr(parse(options, words), config)


# --- what stands where ---------------------------------------------------------------------------


@every_tool
def test_a_tool_has_its_parts(command: Command) -> None:
    content = project(command.folder)
    assert content["name"] == f"fletching-{command.name}"
    assert content["scripts"] == {command.name: f"{command.module}.cli:main"}
    assert (command.folder / "src" / command.module / "cli.py").exists()
    assert (ROOT / "tests" / command.name).is_dir()
    assert list((ROOT / "tests" / command.name).glob("test_*.py"))
    assert list((ROOT / "tests" / "cases" / command.name).glob("*/cmd"))
    module = importlib.import_module(f"{command.module}.cli")
    assert isinstance(module.TOOL, cli.Tool)
    assert module.TOOL.name == command.name
    assert callable(module.main)


@every_tool
def test_the_readme_of_a_tool_says_more_than_its_help(command: Command) -> None:
    text = (command.folder / "README.md").read_text("utf-8")
    assert text.startswith(f"# {command.name}\n")
    assert "<!-- help -->" in text
    assert len(re.sub(r"<!-- help -->.*?<!-- /help -->", "", text, flags=re.DOTALL).split()) > 100


@pytest.mark.parametrize(
    "folder",
    [COMMON, *(command.folder for command in COMMANDS.values())],
    ids=lambda path: path.name,
)
def test_files_are_nouns_of_the_domain_with_a_docstring(folder: Path) -> None:
    for path in sources(folder):
        inside = path.relative_to(folder / "src").with_suffix("").parts[1:]
        assert not set(inside) & VAGUE, path
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path} has no docstring"


# --- versions ------------------------------------------------------------------------------------


def pyprojects() -> list[Path]:
    return [
        ROOT / "pyproject.toml",
        COMMON / "pyproject.toml",
        *sorted(ROOT.glob("tools/*/pyproject.toml")),
    ]


def test_all_packages_have_one_version_and_one_python() -> None:
    assert {project(path.parent)["version"] for path in pyprojects()} == {
        project(COMMON)["version"]
    }
    assert {project(path.parent)["requires-python"] for path in pyprojects()} == {
        project(COMMON)["requires-python"]
    }


@every_tool
def test_a_tool_wants_the_common_library_of_its_own_version(command: Command) -> None:
    wanted = [
        requirement
        for requirement in requirements(command.folder)
        if requirement.name == "fletching"
    ]  # an extra may bring more of it
    version = Version(project(COMMON)["version"])
    assert wanted
    for common in wanted:
        assert version in common.specifier
        assert Version(f"{version.major}.{version.minor + 1}") not in common.specifier


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = [line.split("#")[0].strip() for line in lines]
    return {
        canonicalize_name(name): Version(version)
        for name, version in (line.split("==") for line in found if line)
    }


@pytest.mark.parametrize("path", pyprojects(), ids=lambda path: path.parent.name)
def test_every_dependency_is_pinned_to_a_version_that_its_range_allows(path: Path) -> None:
    pinned = pins()
    for requirement in requirements(path.parent):
        name = canonicalize_name(requirement.name)
        if name == "fletching" or (requirement.marker and not requirement.marker.evaluate()):
            continue
        assert name in pinned, f"{requirement} of {path.parent.name} is not in constraints.txt"
        assert pinned[name] in requirement.specifier, f"{requirement} does not allow {pinned[name]}"


def test_the_versions_that_run_these_tests_are_the_pinned_ones() -> None:
    """A suite that passes with other versions says nothing of the pinned ones."""
    if "FLETCHING_ANY_VERSIONS" in os.environ:
        pytest.skip("asked for by FLETCHING_ANY_VERSIONS")
    differing = {}
    for name, version in pins().items():
        try:
            installed = Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.public.split("+")[0] != version.public.split("+")[0]:
            differing[name] = (str(version), str(installed))
    assert differing == {}


def test_make_bench_runs_every_benchmark() -> None:
    told = re.findall(
        r"^(?:ALONE|ON_DATA) := (.*)$", (ROOT / "bench" / "Makefile").read_text("utf-8"), re.M
    )
    assert sorted(" ".join(told).split()) == sorted(
        path.stem for path in (ROOT / "bench").glob("*.py")
    )
