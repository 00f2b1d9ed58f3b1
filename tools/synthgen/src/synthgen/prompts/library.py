"""The words that a run is made of: prompts, value sets of the axes, languages, seed tasks, prices.

All of them are plain files of the folder `data/`. A file of the same name in --prompts DIR stands in for ours.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from fletching.errors import InputError, UsageError

PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Language:
    code: str
    name: str
    scripts: tuple[str, ...]  # as Unicode names begin: LATIN, CJK
    weight: float


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The template with each {name} replaced, in one pass: what is put in is never looked at again.

    >>> fill("{a} and {b}", {"a": "{b}", "b": 1})
    '{b} and 1'
    """
    return PLACE.sub(lambda place: str(values[place[1]]), template)


def quoted(text: str) -> str:
    """A foreign text as a JSON string: it cannot end the quotation and speak as the prompt."""
    return json.dumps(text, ensure_ascii=False)


class Materials:
    """The files of the package, with those of `folder` in front."""

    def __init__(self, folder: str | None = None) -> None:
        self.own = importlib.resources.files("synthgen.prompts") / "data"
        self.folder = Path(folder) if folder else None
        known = {entry.name for entry in self.own.iterdir()}
        if self.folder:
            if not self.folder.is_dir():
                raise UsageError(
                    f"--prompts {folder} is no folder",
                    "synthgen --export-prompts DIR makes one with all files to edit",
                )
            self.replaced = sorted(
                entry.name for entry in self.folder.iterdir() if not entry.name.startswith(".")
            )
            stray = [name for name in self.replaced if name not in known]
            if stray:
                raise UsageError(
                    f"--prompts {folder} holds {stray[0]}, which is none of our files",
                    "name it as one of " + ", ".join(sorted(known)),
                )
        else:
            self.replaced = []

    def text(self, name: str) -> str:
        if name in self.replaced and self.folder:
            return (self.folder / name).read_text("utf-8")
        return (self.own / name).read_text("utf-8")

    @property
    def digest(self) -> str | None:
        """What stands in the lineage for replaced files; None where all are ours."""
        if not self.replaced:
            return None
        return xxhash.xxh3_64_hexdigest(
            json.dumps({name: self.text(name) for name in self.replaced}, sort_keys=True).encode()
        )

    def template(self, name: str, places: set[str]) -> str:
        """A prompt, which may name these places and no others."""
        text = self.text(name + ".md").strip()
        wrong = sorted(set(PLACE.findall(text)) - places)
        if wrong:
            raise InputError(
                f"{name}.md names {{{wrong[0]}}}, which nothing fills",
                "use " + ", ".join(f"{{{place}}}" for place in sorted(places)),
            )
        if "{format}" not in text:
            raise InputError(
                f"{name}.md has no {{format}}", "put {format} where the form of the reply is told"
            )
        return text

    def lines(self, name: str) -> list[str]:
        found = [line.strip() for line in self.text(name).splitlines()]
        found = [line for line in found if line and not line.startswith("#")]
        if not found:
            raise InputError(f"{name} is empty", "give it one item a line")
        return found

    @cached_property
    def axes(self) -> dict[str, dict[str, list[str]]]:
        """{group: {axis: its values}}."""
        content = self._json("axes.json")
        for group, axes in content.items():
            for axis, values in axes.items():
                if not re.fullmatch("[a-z_]+", axis):
                    raise InputError(
                        f"axes.json: {group} has the axis {axis!r}",
                        "name it in lower case, with _ for blanks",
                    )
                if (
                    not isinstance(values, list)
                    or not values
                    or not all(isinstance(value, str) and value for value in values)
                ):
                    raise InputError(
                        f"axes.json: {group}.{axis} is no list of texts", 'write ["one", "two"]'
                    )
        return content

    def languages(self, name: str = "languages.tsv") -> list[Language]:
        """The table of languages with their weights in a draw."""
        found = []
        for number, line in enumerate(self.text(name).splitlines()[1:], 2):
            parts = line.split("\t")
            try:
                code, full, scripts, weight = parts
                found.append(Language(code, full, tuple(scripts.split(",")), float(weight)))
            except ValueError:
                raise InputError(
                    f"{name}, line {number}: not code, name, scripts, weight",
                    "separate four columns by tabs",
                ) from None
        return found

    def prices(self, path: str | None) -> dict[str, dict[str, float]]:
        """{model: dollars for a million tokens of input, cached, output; batch: factor}."""
        if path is None:
            return self._json("prices.json")["models"]
        try:
            content = json.loads(Path(path).read_text("utf-8"))
            return dict(content.get("models", content))
        except (ValueError, AttributeError, TypeError):
            raise UsageError(
                f"--prices {path} is no price table",
                'write {"NAME": {"input": 0.15, "output": 0.6}} in dollars a million tokens',
            ) from None

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self.text(name))
        except ValueError as error:
            raise InputError(f"{name} is no JSON: {error}", "correct it") from None

    def export(self, folder: str) -> list[str]:
        """Copy every file to a folder, to be edited."""
        os.makedirs(folder, exist_ok=True)
        names = sorted(entry.name for entry in self.own.iterdir())
        taken = [name for name in names if os.path.exists(os.path.join(folder, name))]
        if taken:
            raise UsageError(
                f"--export-prompts: {folder} holds {taken[0]} already", "name a new folder"
            )
        for name in names:
            Path(folder, name).write_text(self.text(name), "utf-8")
        return names
