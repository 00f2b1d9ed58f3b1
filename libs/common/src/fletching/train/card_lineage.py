"""The lineage of a model for its card: each step with the options that differ from the defaults."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from typing import Any

from fletching.options.fields import describe
from fletching.protocols import Lineage
from fletching.train import markdown

PACKAGE_PREFIX = "fletching-"
LONGEST_VALUE = 120  # characters of an option's value in the card
NOT_OPTIONS = ("model", "models", "served_model")  # fingerprints, which fletching.json holds


def lineage_section(node: Lineage) -> list[str]:
    """The steps as a table, the first one first."""
    rows = [
        [
            markdown.plain_text(str(step["tool"])),
            markdown.plain_text(str(step.get("version", ""))),
            _options_in_words(step),
        ]
        for step in _steps(node)
    ]
    header = ["step", "version", "options that differ from the defaults"]
    return [
        "## Lineage",
        markdown.markdown_table(header, rows),
        "`fletching.json` holds every option, the digests of the data and the fingerprint of the "
        "base.",
    ]


def _steps(node: Lineage) -> Iterator[Lineage]:
    """The nodes of a tree in the order of `lineage.tools`, equal ones once."""
    distinct: list[Lineage] = []
    for step in _walk(node):
        alone = {name: value for name, value in step.items() if name != "from"}
        if alone not in distinct:
            distinct.append(alone)
            yield alone


def _walk(node: Lineage) -> Iterator[Lineage]:
    for source in node.get("from", []):
        yield from _walk(source)
    yield node


def _options_in_words(step: Lineage) -> str:
    stated = step.get("options")
    if not isinstance(stated, dict):
        return ""
    defaults = default_options(str(step["tool"]))
    changed = [
        _in_words(name, value)
        for name, value in stated.items()
        if name not in NOT_OPTIONS and not _is_default(name, value, defaults)
    ]
    return "<br>".join(changed)


def _is_default(name: str, value: object, defaults: Mapping[str, Any]) -> bool:
    default = defaults.get(name)
    default = list(default) if isinstance(default, tuple) else default
    return name in defaults and value == default


def _in_words(name: str, value: object) -> str:
    flag = markdown.plain_text("--" + name.rstrip("_").replace("_", "-"))
    if value is True:
        return flag
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_VALUE:
        text = text[:LONGEST_VALUE] + "…"
    return f"{flag} {markdown.cell_code(text)}"


def default_options(tool: str) -> dict[str, Any]:
    """The defaults of a tool's options by field name; {} for one that is not installed.

    The name comes from data: only the program that the package `fletching-NAME` declares under it
    is looked at.
    """
    package = PACKAGE_PREFIX + tool.removeprefix(PACKAGE_PREFIX)
    for script in importlib.metadata.entry_points(group="console_scripts", name=tool):
        if script.dist is None or script.dist.name != package:
            continue
        options = importlib.import_module(script.module).TOOL.options
        return {name: option.default for name, option in describe(options).items()}
    return {}
