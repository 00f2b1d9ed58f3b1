"""What each package consists of: parts, versions, pins, and what lies in its wheel."""

from __future__ import annotations

import email
import functools
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import built_once
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from source_tree import COMMON, FOLDERS, project, requirements
from suite import PROGRAMS, ROOT, Command

from fletching import cli

every_tool = pytest.mark.parametrize("command", PROGRAMS.values(), ids=PROGRAMS.keys())
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
PYPROJECTS = [ROOT, *FOLDERS]


@every_tool
def test_a_tool_has_its_parts(command: Command) -> None:
    content = project(command.folder)
    assert content["name"] == f"fletching-{command.folder.name}"
    assert content["scripts"] == {command.name: f"{command.module}.cli:main"}
    for name in ("cli.py", "options.py", "py.typed"):
        assert (command.folder / "src" / command.module / name).exists()
    assert list((ROOT / "tests" / command.folder.name).glob("test_*.py"))
    assert list((ROOT / "tests" / "cases" / command.folder.name).glob("*/cmd"))
    module = importlib.import_module(f"{command.module}.cli")
    assert isinstance(module.TOOL, cli.Tool)
    assert module.TOOL.name == command.name
    assert callable(module.main)


@every_tool
def test_the_readme_of_a_tool_says_more_than_its_help(command: Command) -> None:
    text = (command.folder / "README.md").read_text("utf-8")
    assert text.startswith(f"# {command.name}\n")
    assert "<!-- help -->" in text
    prose = re.sub(r"<!-- help -->.*?<!-- /help -->", "", text, flags=re.DOTALL)
    assert len(prose.split()) > 100


# --- versions ------------------------------------------------------------------------------------


def test_all_packages_have_one_version_and_one_python() -> None:
    assert len({project(folder)["version"] for folder in PYPROJECTS}) == 1
    assert len({project(folder)["requires-python"] for folder in PYPROJECTS}) == 1


@every_tool
def test_a_tool_wants_the_common_library_of_its_own_version(command: Command) -> None:
    version = Version(project(COMMON)["version"])
    # An extra may bring more of it.
    ranges = [each.specifier for each in requirements(command.folder) if each.name == "fletching"]
    assert ranges
    for specifier in ranges:
        assert version in specifier
        assert Version(f"{version.major}.{version.minor + 1}") not in specifier


@functools.cache
def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    stated = [line.split("#")[0].strip() for line in lines]
    pairs = [line.split("==") for line in stated if line]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.mark.parametrize("folder", PYPROJECTS, ids=lambda path: path.name)
def test_every_dependency_is_pinned_to_a_version_that_its_range_allows(folder: Path) -> None:
    for requirement in requirements(folder):
        name = canonicalize_name(requirement.name)
        if name.startswith("fletching") or (
            requirement.marker and not requirement.marker.evaluate()
        ):
            continue
        assert name in pins(), f"{requirement} of {folder.name} is not in constraints.txt"
        assert pins()[name] in requirement.specifier, f"{requirement} excludes {pins()[name]}"


def test_the_extra_of_tune_has_the_programs_that_it_runs_and_what_their_options_need() -> None:
    folder = next(each for each in FOLDERS if each.name == "tune")
    sources = "".join(path.read_text() for path in folder.glob("src/*/**/*.py"))
    run = {
        f"fletching-{name}"
        for name in set(PROGRAMS) - {"fletching-tune"}
        if re.search(rf'"{name}[" ]', sources)
    }
    extras = project(COMMON)["optional-dependencies"]
    assert run == set(named_extras(extras["tune"])) - {"fletching-tune"}
    for extra in ("tune", "all"):
        for name in ("fletching-hnmine", "fletching-mteb-eval"):
            assert "bm25" in named_extras(extras[extra])[name], "tune passes --bm25"


def named_extras(lines: list[str]) -> dict[str, set[str]]:
    """The extras of each requirement, by name."""
    return {each.name: each.extras for each in map(Requirement, lines)}


@pytest.mark.skipif(not os.environ.get("CI"), reason="pins are tested in CI, ranges elsewhere")
def test_the_versions_that_run_these_tests_are_the_pinned_ones() -> None:
    """A suite that passes with other versions says nothing of the pinned ones."""
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
    """But those that bench/gpu.sh runs."""
    makefile = (ROOT / "bench" / "Makefile").read_text("utf-8")
    lists = re.findall(r"^(?:ALONE|ON_DATA) := (.*)$", makefile, re.MULTILINE)
    assert sorted(" ".join(lists).split()) == sorted(
        path.stem for path in (ROOT / "bench").glob("*.py") if not path.stem.startswith("gpu_")
    )


# --- wheels --------------------------------------------------------------------------------------


def build_wheels(folder: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), *map(str, FOLDERS)], check=True)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each package folder, built without a network."""
    # Once, and not by two workers at a time: setuptools works inside the package folders.
    folder = built_once(tmp_path_factory, "wheels", build_wheels)
    names = {project(path)["name"].replace("-", "_"): path.name for path in FOLDERS}
    return {names[path.name.split("-")[0]]: path for path in folder.glob("*.whl")}


@pytest.mark.slow
@every_folder
def test_a_wheel_holds_licence_types_and_data(folder: Path, wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[folder.name]) as wheel:
        files = set(wheel.namelist())
        [metadata] = [name for name in files if name.endswith(".dist-info/METADATA")]
        message = email.message_from_bytes(wheel.read(metadata))
    [package] = [path for path in (folder / "src").iterdir() if (path / "py.typed").exists()]
    shipped = {
        path.relative_to(folder / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "schemas" not in path.parts
    }
    assert shipped <= files, "every file of the package is in its wheel"
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert message["License-Expression"] == "Apache-2.0"
    assert message["Summary"] and message["Author"]
    assert message.get_payload().strip(), "the README is the long description"
    labels = {line.split(",")[0] for line in message.get_all("Project-URL", [])}
    assert {"Source", "Changelog", "Issues"} <= labels
    classifiers = message.get_all("Classifier", [])
    assert "Typing :: Typed" in classifiers
    assert "Programming Language :: Python :: 3.11" in classifiers


@pytest.mark.slow
def test_the_wheel_of_the_common_library_holds_the_schemas(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["common"]) as wheel:
        files = set(wheel.namelist())
    for path in ROOT.glob("schemas/*/v*/schema.json"):
        assert f"fletching/{path.relative_to(ROOT).as_posix()}" in files
