"""How the code reads, in figures: density, types, lengths, calls and dataclasses; and the words it uses."""

from __future__ import annotations

import ast
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import PACKAGES, every_source, parsed, shown
from suite import ROOT

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
every_package = pytest.mark.parametrize("package", PACKAGES)

# Names that tell a grammatical role and not the thing.
BANNED = {
    "asked", "found", "given", "held", "here", "made", "mine", "own", "place", "places", "room",
    "there", "told",
}  # fmt: skip
VAGUE_FILES = {
    "base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils",
}  # fmt: skip
MOST_POSITIONAL = 3
MOST_UNNAMED_FIELDS = 4
LONGEST_FUNCTION = 60
# Constructors of other libraries that take what they take.
THIRD_PARTY_CALLS = {
    "setattr", "getattr", "range", "slice", "zip", "map", "print", "max", "min", "chain", "join",
    "einsum", "minimum", "maximum", "where", "cat", "add_row", "scaled_dot_product_attention",
}  # fmt: skip


def package_sources(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def code_lines(path: Path) -> list[str]:
    """Lines that hold code: no blank ones, comments or docstrings."""
    skipped: set[int] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, (ast.Module, ast.ClassDef, *Function)) and ast.get_docstring(node):
            docstring = node.body[0]
            skipped |= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    lines = path.read_text("utf-8").splitlines()
    return [
        line
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#") and number not in skipped
    ]


@every_package
def test_one_idea_a_line(package: str) -> None:
    """At most 5.5 syntax nodes (expressions and statements) a code line, over a package."""
    paths = [path for path in package_sources(package) if path.name != "__init__.py"]
    nodes = sum(
        isinstance(node, (ast.expr, ast.stmt)) for path in paths for node in ast.walk(parsed(path))
    )
    lines = sum(len(code_lines(path)) for path in paths)
    assert nodes / lines <= 5.5


@every_package
def test_lines_are_short(package: str) -> None:
    lengths = [
        len(line)
        for path in package_sources(package)
        for line in path.read_text("utf-8").splitlines()
        if line.strip()
    ]
    assert statistics.quantiles(lengths, n=20)[-1] <= 98  # the 95th percentile


@every_package
def test_parameters_have_types(package: str) -> None:
    """At most 2 % of them are `Any`: where a third party gives nothing better."""
    annotations = [
        ast.unparse(argument.annotation) if argument.annotation else ""
        for path in package_sources(package)
        for node in ast.walk(parsed(path))
        if isinstance(node, Function)
        for argument in (*node.args.args, *node.args.kwonlyargs)
        if argument.arg not in ("self", "cls")
    ]
    assert "" not in annotations
    assert annotations.count("Any") <= 0.02 * len(annotations)


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in every_source():
        for node in ast.walk(parsed(path)):
            if isinstance(node, Function):
                yield path, node


def test_functions_are_short() -> None:
    long = [
        f"{shown(path, node)} {node.name}"
        for path, node in functions()
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_call_has_more_than_three_positional_arguments() -> None:
    """Only calls of our own functions and classes: other libraries' signatures are theirs."""
    defined = {node.name for _, node in functions()} | {
        node.name
        for path in every_source()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
    }
    long = []
    for path in every_source():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL:
                called = node.func
                name = (
                    called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                )
                starred = any(isinstance(argument, ast.Starred) for argument in node.args)
                if name in defined - THIRD_PARTY_CALLS and not starred:
                    long.append(f"{shown(path, node)} {name}")
    assert long == []


def test_records_of_many_fields_are_made_by_name() -> None:
    """Dataclasses of more than four fields are kw_only; NamedTuples have four at most."""
    positional = []
    for path in every_source():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ClassDef):
                continue
            fields = [
                each
                for each in node.body
                if isinstance(each, ast.AnnAssign)
                and not ast.unparse(each.annotation).startswith("ClassVar")
            ]
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            bases = {ast.unparse(base) for base in node.bases}
            unnamed = ("dataclass" in decorators and "kw_only=True" not in decorators) or (
                "NamedTuple" in bases
            )
            if unnamed and len(fields) > MOST_UNNAMED_FIELDS:
                positional.append(f"{shown(path, node)} {node.name}")
    assert positional == []


def stored_names(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """What a file names: variables, parameters, attributes, functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node, node.attr
        elif isinstance(node, ast.arg):
            yield node, node.arg
        elif isinstance(node, Function):
            yield node, node.name


def test_names_say_what_a_thing_is() -> None:
    vague = [
        f"{shown(path, node)} {name}"
        for path in every_source()
        for node, name in stored_names(parsed(path))
        if name.strip("_") in BANNED
    ]
    assert vague == []


def test_a_class_name_means_one_thing() -> None:
    """`Options` excepted, which each tool has."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path in every_source():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and node.name != "Options":
                homes[node.name].append(shown(path, node))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_files_are_nouns_of_the_domain_with_a_docstring() -> None:
    for path in every_source():
        inside = path.relative_to(ROOT).with_suffix("").parts
        assert not set(inside[inside.index("src") + 1 :]) & VAGUE_FILES, path
        assert ast.get_docstring(parsed(path)), f"{path} has no docstring"


def test_the_glossary_explains_the_words_of_the_command_line() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^\*\*(.+?)\*\*", glossary, re.MULTILINE)
    assert len(terms) == len(set(terms)) > 40
    assert terms == sorted(terms, key=str.casefold)
    for word in ("query", "positive", "hard negative", "temperature", "GradCache", "pooling"):
        assert word in terms
