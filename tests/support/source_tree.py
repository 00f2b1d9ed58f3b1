"""The source trees of the repository as the house tests look at them: files, imports, parsed modules."""

from __future__ import annotations

import ast
import functools
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from suite import PROGRAMS, ROOT

COMMON = ROOT / "libs" / "common"
FOLDERS = [COMMON, *(command.folder for command in PROGRAMS.values())]
TOOL_MODULES = {command.module for command in PROGRAMS.values()}
PACKAGES = {
    "fletching": COMMON / "src" / "fletching",
    **{command.module: command.folder / "src" / command.module for command in PROGRAMS.values()},
}
# Distributions whose modules have other names.
DISTRIBUTIONS = {
    "markdown_it": "markdown-it-py",
    "yaml": "pyyaml",
    "docx": "python-docx",
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "huggingface_hub": "huggingface-hub",
}


def sources(folder: Path) -> list[Path]:
    """The Python files of one package folder (libs/common, tools/NAME)."""
    return sorted(path for path in (folder / "src").rglob("*.py") if "egg-info" not in str(path))


def every_source() -> list[Path]:
    """The Python files of all packages."""
    return [path for folder in FOLDERS for path in sources(folder)]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def shown(path: Path, node: ast.AST) -> str:
    """`file:line`, for messages."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def imported(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The full names of the modules that a file imports; relative imports are refused."""
    tree = parsed(path)
    nodes: Iterator[ast.AST] = iter(tree.body) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path, node)}: relative import"
            yield node.module or ""


def third_party(path: Path, top_level_only: bool = False) -> set[str]:
    """The first parts of imported names that are not of the standard library."""
    first_parts = {name.split(".")[0] for name in imported(path, top_level_only)}
    return first_parts - set(sys.stdlib_module_names)


def modules_of(package: str) -> dict[str, Path]:
    """Each module of a package by its dotted name; a package's `__init__` has the package's name."""
    base = PACKAGES[package]
    modules = {}
    for path in sorted(base.rglob("*.py")):
        parts = [package, *path.relative_to(base).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = path
    return modules


def arrows(package: str) -> dict[str, set[str]]:
    """Which modules of its own package each module imports: at the top, late, or for type checkers.

    `from a.b import c` is an arrow to `a.b.c` where that is a module, else to `a.b`.
    """
    modules = modules_of(package)
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets: set[str] = set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {each if each in modules else node.module for each in inside}
        graph[name] = {target for target in targets if target in modules} - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            position = stack.index(node)
            components.append(sorted(stack[position:]))
            del stack[position:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return [component for component in components if len(component) > 1]


def project(folder: Path) -> dict[str, Any]:
    """The `[project]` table of a folder's pyproject.toml."""
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def requirements(folder: Path) -> list[Requirement]:
    """All dependencies of a folder's package, extras included."""
    content = project(folder)
    extras = [line for lines in content.get("optional-dependencies", {}).values() for line in lines]
    return [Requirement(line) for line in content["dependencies"] + extras]
