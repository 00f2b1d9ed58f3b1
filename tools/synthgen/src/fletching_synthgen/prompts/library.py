"""The prompt library: prompt templates, attribute values, languages, seed tasks, prices.

All are plain files in the folder `data/`. A file of the same name in --prompts DIR replaces ours.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from fletching import unique_keys
from fletching.errors import InputError, UsageError
from fletching.unique_keys import RepeatedKeyError

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
FORMAT = "format"  # the placeholder of every prompt for the form of the reply


@dataclass(frozen=True)
class QueryForm:
    """A kind of query that a passage can be asked for, as the prompt describes it."""

    name: str
    length: str  # as a length attribute: "5 to 20 words"
    description: str


@dataclass(frozen=True)
class Demonstration:
    """A passage with a query of each kind: what the LLM sees done before it is asked."""

    passage: str
    queries: Mapping[str, str]  # by the name of their kind


@dataclass(frozen=True)
class Language:
    """A language that texts can be asked for in."""

    code: str
    name: str
    scripts: tuple[str, ...]  # as Unicode names begin: LATIN, CJK
    weight: float  # in a draw


def fill_template(template: str, values: Mapping[str, object]) -> str:
    """The template with each {name} replaced, in one pass: values are not searched again.

    >>> fill_template("{a} and {b}", {"a": "{b}", "b": 1})
    '{b} and 1'
    """
    return PLACEHOLDER.sub(lambda placeholder: str(values[placeholder[1]]), template)


def quote(text: str) -> str:
    """A foreign text as a JSON string: it cannot end the quotation and speak as the prompt."""
    return json.dumps(text, ensure_ascii=False)


def check_template(name: str, template: str, placeholders: Collection[str]) -> None:
    """Raise InputError where a prompt names other placeholders than these, or lacks {format}."""
    allowed = {*placeholders, FORMAT}
    unknown = sorted(set(PLACEHOLDER.findall(template)) - allowed)
    if unknown:
        names = ", ".join(f"{{{placeholder}}}" for placeholder in sorted(allowed))
        raise InputError(f"{name}.md names {{{unknown[0]}}}, which nothing fills", f"use {names}")
    if "{format}" not in template:
        raise InputError(
            f"{name}.md has no {{format}}", "put {format} where the form of the reply is described"
        )


class PromptLibrary:
    """The files of the package, with those of `folder` in their place.

    Raises UsageError where `folder` is none, or holds a file that is none of ours.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.package = importlib.resources.files("fletching_synthgen.prompts") / "data"
        self.folder = Path(folder) if folder else None
        self.replaced = self._user_files(self.folder) if self.folder else []

    def _user_files(self, folder: Path) -> list[str]:
        """Names of the user's files."""
        if not folder.is_dir():
            raise UsageError(
                f"--prompts {folder} is no folder",
                "synthgen --export-prompts DIR makes one with all files to edit",
            )
        known = self._package_files()
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(
                f"--prompts {folder} holds {unknown[0]}, which is none of our files",
                "name it as one of " + ", ".join(known),
            )
        return names

    def _package_files(self) -> list[str]:
        return sorted(entry.name for entry in self.package.iterdir())

    def text(self, name: str) -> str:
        """The content of a file. Raises InputError where the user's is not UTF-8."""
        if name in self.replaced and self.folder:
            path = self.folder / name
            try:
                return path.read_text("utf-8")
            except UnicodeDecodeError as error:
                byte = f"0x{error.object[error.start]:02x}"
                raise InputError(f"{path}: not UTF-8 (byte {byte})", "convert it") from None
        return (self.package / name).read_text("utf-8")

    @property
    def digest(self) -> str | None:
        """A hash of the replaced files, for the lineage; None where all are ours."""
        if not self.replaced:
            return None
        content = {name: self.text(name) for name in self.replaced}
        return xxhash.xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode())

    def template(self, name: str, placeholders: Collection[str]) -> str:
        """The prompt NAME.md.

        Raises InputError unless it names only these placeholders and {format}.
        """
        template = self.text(name + ".md").strip()
        check_template(name, template, placeholders)
        return template

    def lines(self, name: str) -> list[str]:
        """The lines of a file, without blank ones and comments.

        Raises InputError if there are none.
        """
        stripped = (line.strip() for line in self.text(name).splitlines())
        lines = [line for line in stripped if line and not line.startswith("#")]
        if not lines:
            raise InputError(f"{name} is empty", "write one item a line")
        return lines

    @cached_property
    def attributes(self) -> dict[str, dict[str, list[str]]]:
        """{group: {attribute: its values}}, from axes.json. Raises InputError."""
        content: dict[str, dict[str, list[str]]] = self._json("axes.json")
        for group, attributes in content.items():
            if not isinstance(attributes, dict):
                raise InputError(f"axes.json: {group} is no object", 'write {"NAME": ["one"]}')
            for attribute, values in attributes.items():
                _check_attribute(group, attribute, values)
        return content

    def languages(self, name: str = "languages.tsv") -> list[Language]:
        """The languages of a table, with their weights in a draw. Raises InputError."""
        languages: list[Language] = []
        for number, line in enumerate(self.text(name).splitlines()[1:], 2):
            try:
                code, full_name, scripts, weight = line.split("\t")
                language = Language(
                    code=code,
                    name=full_name,
                    scripts=tuple(scripts.split(",")),
                    weight=float(weight),
                )
                if not 0 <= language.weight < math.inf:
                    raise ValueError("no weight")
            except ValueError:
                raise InputError(
                    f"{name}, line {number}: not code, name, scripts, weight",
                    "separate four columns by tabs",
                ) from None
            languages.append(language)
        return languages

    @cached_property
    def query_kinds(self) -> dict[str, QueryForm]:
        """{name: kind} of kinds.tsv. Raises InputError."""
        kinds: dict[str, QueryForm] = {}
        for number, line in enumerate(self.text("kinds.tsv").splitlines()[1:], 2):
            cells = line.split("\t")
            if len(cells) != 3 or not all(cells) or cells[0] in kinds:
                raise InputError(
                    f"kinds.tsv, line {number}: not a new kind, its length, its description",
                    "separate three columns by tabs, one kind a line",
                )
            kinds[cells[0]] = QueryForm(*cells)
        if not kinds:
            raise InputError("kinds.tsv is empty", "write one kind a line, below the heading")
        return kinds

    @cached_property
    def demonstrations(self) -> list[Demonstration]:
        """The passages of demonstrations.json and their queries. Raises InputError.

        In the user's file all kinds are those of kinds.tsv; ours stays where that is replaced.
        """
        content = self._parse("demonstrations.json")
        fix = 'write [{"passage": "…", "queries": {"question": "…"}}], or [] for none'
        if not isinstance(content, list):
            raise InputError("demonstrations.json is no list", fix)
        for number, item in enumerate(content, 1):
            if not _is_demonstration(item):
                raise InputError(
                    f"demonstrations.json, item {number}: not a passage with queries", fix
                )
            unknown = sorted(set(item["queries"]) - set(self.query_kinds))
            if unknown and "demonstrations.json" in self.replaced:
                what = f"demonstrations.json, item {number}: kinds.tsv has no kind {unknown[0]!r}"
                raise InputError(what, "name one of " + ", ".join(self.query_kinds))
        return [Demonstration(item["passage"], item["queries"]) for item in content]

    def prices(self, path: str | None) -> dict[str, dict[str, float]]:
        """{model: dollars for a million tokens of input, cached, output; batch: factor}.

        path: the user's table in place of ours. Raises UsageError where it is none.
        """
        if path is None:
            prices: dict[str, dict[str, float]] = self._json("prices.json")["models"]
            return prices
        try:
            content = unique_keys.parse_json(Path(path).read_text("utf-8"))
            prices = dict(content.get("models", content))
            for price in itertools.chain.from_iterable(each.values() for each in prices.values()):
                _check_price(price)
            return prices
        except RepeatedKeyError as error:
            raise UsageError(f"--prices {path}: {error}", "leave one of them") from None
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise UsageError(
                f"--prices {path} is no price table",
                'write {"NAME": {"input": 0.15, "output": 0.6}} in dollars a million tokens',
            ) from None

    def _parse(self, name: str) -> Any:  # noqa: ANN401
        try:
            return unique_keys.parse_json(self.text(name))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} is no JSON: {error}", "correct it") from None

    def _json(self, name: str) -> dict[str, Any]:
        content = self._parse(name)
        if not isinstance(content, dict):
            raise InputError(f"{name} is no object", 'write {"GROUP": {"NAME": ["one", "two"]}}')
        return content

    def export(self, folder: str) -> list[str]:
        """Copy every file to a folder for editing; their names.

        Raises UsageError if one is there already.
        """
        os.makedirs(folder, exist_ok=True)
        names = self._package_files()
        existing = [name for name in names if os.path.exists(os.path.join(folder, name))]
        if existing:
            raise UsageError(
                f"--export-prompts: {folder} holds {existing[0]} already", "name a new folder"
            )
        for name in names:
            Path(folder, name).write_text(self.text(name), "utf-8")
        return names


def _is_demonstration(item: object) -> bool:
    """Is this an object of a passage and an object of queries, all of them texts?"""
    if not isinstance(item, dict) or set(item) != {"passage", "queries"}:
        return False
    queries = item["queries"]
    texts = [item["passage"], *(queries.values() if isinstance(queries, dict) else [None])]
    return all(isinstance(text, str) and text.strip() for text in texts)


def _check_price(price: object) -> None:
    """Raise ValueError for what is no number of dollars."""
    is_number = isinstance(price, (int, float)) and not isinstance(price, bool)
    if not (is_number and 0 <= float(str(price)) < math.inf):
        raise ValueError(f"{price!r} is no price")


def _check_attribute(group: str, attribute: str, values: object) -> None:
    if not re.fullmatch("[a-z_]+", attribute):
        raise InputError(
            f"axes.json: {group} has the axis {attribute!r}",
            "name it in lower case, with _ for blanks",
        )
    is_list = isinstance(values, list) and len(values) > 0
    if not is_list or not all(isinstance(value, str) and value for value in values):  # type: ignore[attr-defined]
        raise InputError(
            f"axes.json: {group}.{attribute} is no list of texts", 'write ["one", "two"]'
        )
